"""Unmodified tritonclient.grpc, sync and asyncio, against the gateway in front of a real embedding service."""

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as sync_grpc
import tritonclient.grpc.aio as triton_grpc
from tritonclient.utils import InferenceServerException

from services.common.triton import service_pb2, service_pb2_grpc
from tests.contract.embedding_fleet import ENCODER, IDS, MASK, TEXT, embedding_fleet
from tests.integration.gateway.gateway import Gateway


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with embedding_fleet(tmp_path_factory.mktemp("fleet")) as gateway:
        yield gateway


@pytest.fixture
async def client(fleet: Gateway) -> AsyncIterator[triton_grpc.InferenceServerClient]:
    async with triton_grpc.InferenceServerClient(f"127.0.0.1:{fleet.grpc_port}") as triton:
        yield triton


def tensors(of: Any = triton_grpc) -> list[Any]:
    inputs = []
    for name, value in (("input_ids", IDS), ("attention_mask", MASK)):
        tensor = of.InferInput(name, list(value.shape), "INT64")
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    return inputs


def text(value: str) -> list[Any]:
    tensor = triton_grpc.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[value]], object))
    return [tensor]


async def test_health_metadata_and_config(client: triton_grpc.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(ENCODER, "1")
    assert (await client.get_server_metadata(as_json=True))["name"] == "flotilla"
    assert (await client.get_model_metadata(ENCODER)).outputs[0].name == "sentence_embedding"
    assert (await client.get_model_config(ENCODER)).config.max_batch_size == 32
    index = await client.get_model_repository_index()
    assert {ENCODER, TEXT} <= {model.name for model in index.models}


async def test_statistics(client: triton_grpc.InferenceServerClient) -> None:
    await client.infer(ENCODER, tensors())
    one = await client.get_inference_statistics(ENCODER)
    assert one.model_stats[0].inference_stats.success.count > 0
    everything = await client.get_inference_statistics()
    assert {ENCODER, TEXT} <= {row.name for row in everything.model_stats}


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
async def test_infer(client: triton_grpc.InferenceServerClient, compression: str | None) -> None:
    result = await client.infer(ENCODER, tensors(), request_id="7", compression_algorithm=compression)
    array = result.as_numpy("sentence_embedding")
    assert np.allclose(np.linalg.norm(array, axis=1), 1, atol=1e-5)
    assert result.get_response().id == "7"


async def test_the_ensemble_takes_text(client: triton_grpc.InferenceServerClient) -> None:
    result = await client.infer(TEXT, text("hello"))
    encoded = await client.infer(ENCODER, tensors())
    assert np.allclose(result.as_numpy("sentence_embedding")[0], encoded.as_numpy("sentence_embedding")[0], atol=1e-5)


async def test_a_stream_of_several_models_and_a_bad_request(client: triton_grpc.InferenceServerClient) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": ENCODER, "inputs": tensors(), "request_id": "1"}
        yield {"model_name": "nope", "inputs": tensors(), "request_id": "2"}
        yield {"model_name": ENCODER, "inputs": text("a"), "request_id": "3"}
        yield {"model_name": TEXT, "inputs": text("hello"), "request_id": "4"}

    good, bad = [], []
    async for result, error in client.stream_infer(requests()):
        (bad if error is not None else good).append(error or result.get_response().id)
    assert sorted(good) == ["1", "4"]
    assert sorted(str(error).partition(":")[0] for error in bad) == [
        "inputs are ['text']; model 'all_minilm_l6_v2' takes ['attention_mask', 'input_ids']",
        "model 'nope' is not loaded; loaded",
    ]


async def test_a_stream_with_typed_errors_ends_with_the_status(client: triton_grpc.InferenceServerClient) -> None:
    for model, code in (("nope", "NOT_FOUND"), (ENCODER, "INVALID_ARGUMENT")):

        async def requests(model: str = model) -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": model, "inputs": text("a")}

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in client.stream_infer(requests(), headers={"triton_grpc_error": "true"}):
                pass
        assert caught.value.code().name == code


async def test_the_sync_client_and_its_stream(fleet: Gateway) -> None:
    def use() -> np.ndarray:
        answers: queue.Queue[Any] = queue.Queue()
        with sync_grpc.InferenceServerClient(f"127.0.0.1:{fleet.grpc_port}") as client:
            assert client.is_server_ready()
            one = client.infer(ENCODER, tensors(sync_grpc)).as_numpy("sentence_embedding")
            client.start_stream(lambda result, error: answers.put(error or result))
            for number in range(3):
                client.async_stream_infer(ENCODER, tensors(sync_grpc), request_id=str(number))
            streamed = [answers.get(timeout=60) for _ in range(3)]
            client.stop_stream()
        assert {result.get_response().id for result in streamed} == {"0", "1", "2"}
        assert all(np.array_equal(result.as_numpy("sentence_embedding"), one) for result in streamed)
        return one

    assert (await asyncio.to_thread(use)).shape == (2, 384)


_REFUSED: dict[str, Callable[[Any], Any]] = {
    "load": lambda client: client.load_model(ENCODER),
    "unload": lambda client: client.unload_model(ENCODER),
    "trace": lambda client: client.get_trace_settings(),
    "log": lambda client: client.get_log_settings(),
    "system": lambda client: client.get_system_shared_memory_status(),
    "register": lambda client: client.register_system_shared_memory("r", "/r", 8),
    "cuda": lambda client: client.unregister_cuda_shared_memory("r"),
}


@pytest.mark.parametrize("call", _REFUSED.values(), ids=_REFUSED)
async def test_what_is_not_served_says_so(client: Any, call: Callable[[Any], Any]) -> None:
    with pytest.raises(InferenceServerException, match="is not served here: ") as caught:
        await call(client)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


async def test_an_unknown_model_lists_what_is_loaded(client: triton_grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=f"'nope' is not loaded; loaded: {ENCODER}") as caught:
        await client.infer("nope", tensors())
    assert caught.value.status() == "StatusCode.NOT_FOUND"


async def test_a_deadline_reaches_the_model(client: triton_grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await client.infer(ENCODER, tensors(), client_timeout=0.000001)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert (await client.infer(ENCODER, tensors())).as_numpy("sentence_embedding").shape == (2, 384)


def good() -> Any:
    request = service_pb2.ModelInferRequest(model_name=ENCODER)
    for name, value in (("input_ids", IDS), ("attention_mask", MASK)):
        request.inputs.add(name=name, datatype="INT64", shape=value.shape)
        request.raw_input_contents.append(value.tobytes())
    return request


def negative(request: Any) -> None:
    request.inputs[0].shape[0] = -2


def huge(request: Any) -> None:
    request.inputs[0].shape[:] = [2**62, 2**62]


def short(request: Any) -> None:
    request.raw_input_contents[0] = b"\0" * 7


def wrong_dtype(request: Any) -> None:
    request.inputs[0].datatype = "FP32"


def missing(request: Any) -> None:
    del request.inputs[1]


def both_kinds(request: Any) -> None:
    request.inputs[0].contents.int64_contents.append(1)


def shared_memory(request: Any) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"


@pytest.mark.parametrize("spoil", [negative, huge, short, wrong_dtype, missing, both_kinds, shared_memory])
async def test_a_bad_request_is_refused_and_the_next_call_works(fleet: Gateway, spoil: Callable[[Any], None]) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(fleet.grpc)
    request = good()
    spoil(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len((await stub.ModelInfer(good())).raw_output_contents) == 1
