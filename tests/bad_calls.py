"""gRPC calls that the embedding service refuses, the field that each error names, and what a refusal looks like."""

import struct

import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.common.errors import Kind, from_rpc_error
from services.common.triton import service_pb2

EMBED, RANK = (f"/flotilla.embedding.v1.EmbeddingService/{method}" for method in ("Embed", "Rank"))
INFER = "/inference.GRPCInferenceService/ModelInfer"
LONG = "word " * 300


def text(value):
    return pb.Input(text=value)


def ids(*values):
    return pb.Input(tokens=pb.TokenIds(ids=values))


BAD_EMBED = {
    "empty list": (pb.EmbedRequest(), "inputs"),
    "empty string": (pb.EmbedRequest(inputs=[text("fine"), text("")]), "inputs[1]"),
    "nothing set": (pb.EmbedRequest(inputs=[pb.Input()]), "inputs[0]"),
    "no token ids": (pb.EmbedRequest(inputs=[ids()]), "inputs[0]"),
    "id outside the vocabulary": (pb.EmbedRequest(inputs=[ids(5, 30522)]), "inputs[0][1]"),
    "largest id": (pb.EmbedRequest(inputs=[ids(2**32 - 1)]), "inputs[0][0]"),
    "too many inputs": (pb.EmbedRequest(inputs=[text("a")] * 2049), "inputs"),
    "too many characters": (pb.EmbedRequest(inputs=[text("a" * 200_001)], truncate=pb.TRUNCATE_END), "inputs[0]"),
    "too many tokens": (pb.EmbedRequest(inputs=[text("a"), text(LONG)]), "inputs[1]"),
    "too many tokens, NONE": (pb.EmbedRequest(inputs=[text(LONG)], truncate=pb.TRUNCATE_NONE), "inputs[0]"),
    "too many ids": (pb.EmbedRequest(inputs=[ids(*[7] * 300)]), "inputs[0]"),
    "dimensions": (pb.EmbedRequest(inputs=[text("a")], dimensions=100), "dimensions"),
    "input_type": (pb.EmbedRequest(inputs=[text("a")], input_type=9), "input_type"),
    "truncate": (pb.EmbedRequest(inputs=[text("a")], truncate=9), "truncate"),
    "negative truncate": (pb.EmbedRequest(inputs=[text("a")], truncate=-1), "truncate"),
    "output_type": (pb.EmbedRequest(inputs=[text("a")], output_type=9), "output_type"),
}
BAD_RANK = {
    "no passages": (pb.RankRequest(query="q"), "passages"),
    "empty query": (pb.RankRequest(passages=["p"]), "query"),
    "empty passage": (pb.RankRequest(query="q", passages=["p", ""]), "passages[1]"),
    "long passage": (pb.RankRequest(query="q", passages=["p", LONG]), "passages[1]"),
    "too many passages": (pb.RankRequest(query="q", passages=["p"] * 2049), "passages"),
}


async def refused(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def assert_names(error, field, kind=Kind.INVALID_ARGUMENT):
    assert from_rpc_error(error).kind is kind, error
    details = rpc_status.from_call(error).details
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert details[0].Unpack(info)
    assert (info.domain, info.reason, info.metadata["field"]) == ("flotilla", kind.name, field)
    assert details[1].Unpack(bad)
    assert bad.field_violations[0].field == field
    assert error.details()


def infer(model="all_minilm_l6_v2", shape=(1, 3), raw=None, datatype="INT64", names=("input_ids", "attention_mask")):
    request = service_pb2.ModelInferRequest(model_name=model)
    for name in names:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(struct.pack("<3q", 1, 1, 1) if raw is None else raw)
    return request


def infer_text(raw, shape=(1, 1), datatype="BYTES", name="text"):
    return infer("all_minilm_l6_v2_text", shape, raw, datatype, (name,))


def with_output(name):
    request = infer()
    request.outputs.add(name=name)
    return request


def with_shared_memory():
    request = infer()
    request.inputs[0].parameters["shared_memory_region"].string_param = "x"
    return request


BAD_INFER = {
    "unknown model": (infer("nope"), "model_name"),
    "unknown tensor": (infer(names=("input_ids", "mask")), "inputs"),
    "missing tensor": (infer(names=("input_ids",)), "inputs"),
    "a tensor twice": (infer(names=("input_ids", "input_ids")), "inputs"),
    "no tensors": (service_pb2.ModelInferRequest(model_name="all_minilm_l6_v2"), "inputs"),
    "dtype": (infer(datatype="INT32"), "inputs[0].datatype"),
    "no such dtype": (infer(datatype="NONSENSE"), "inputs[0].datatype"),
    "rank": (infer(shape=(3,)), "inputs[0].shape"),
    "zero": (infer(shape=(1, 0), raw=b""), "inputs[0].shape"),
    "negative": (infer(shape=(1, -3)), "inputs[0].shape"),
    "overflow": (infer(shape=(1, 2**62)), "raw_input_contents"),
    "batch too large": (infer(shape=(33, 1), raw=struct.pack("<33q", *[1] * 33)), "inputs[0].shape"),
    "too few bytes": (infer(raw=b"\x01"), "raw_input_contents"),
    "too many bytes": (infer(raw=b"\x01" * 32), "raw_input_contents"),
    "unknown output": (with_output("nope"), "outputs[0].name"),
    "shared memory": (with_shared_memory(), "inputs[0].parameters"),
    "BYTES without lengths": (infer_text(b"hello"), "raw_input_contents"),
    "BYTES length beyond the end": (infer_text(struct.pack("<I", 100) + b"hello"), "raw_input_contents"),
    "BYTES cut short": (infer_text(b"\x01\x00"), "raw_input_contents"),
    "BYTES count": (infer_text(struct.pack("<I", 1) + b"a", shape=(2, 1)), "raw_input_contents"),
}

BAD_CALLS = {
    f"{path.rpartition('/')[2]} {case}": (path, *row)
    for path, rows in ((EMBED, BAD_EMBED), (RANK, BAD_RANK), (INFER, BAD_INFER))
    for case, row in rows.items()
}


async def assert_refused(channel: grpc.aio.Channel, case: str) -> None:
    """Make a call of BAD_CALLS and hold the refusal against what it must say."""
    path, request, field = BAD_CALLS[case]
    call = channel.unary_unary(path, request_serializer=type(request).SerializeToString)
    kind = Kind.NOT_FOUND if field.startswith("model") else Kind.INVALID_ARGUMENT
    assert_names(await refused(call(request)), field, kind)
