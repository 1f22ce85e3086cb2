"""`POST /v1/embeddings`."""

import asyncio
import binascii
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter
from flotilla.embedding.v1 import embedding_pb2
from starlette.responses import Response

from services.gateway.backends import Backend, Method
from services.gateway.directory import Directory
from services.gateway.errors import RESPONSES, public_names
from services.gateway.json_route import JsonRoute
from services.gateway.schemas.common import TimeoutMs, seconds
from services.gateway.schemas.embeddings import EmbeddingsRequest, EmbeddingsResponse

EMBED = Method("/flotilla.embedding.v1.EmbeddingService/Embed", embedding_pb2.EmbedRequest, embedding_pb2.EmbedResponse)
ROWS_AT_A_TIME = 64

_DTYPES: dict[int, np.dtype[Any]] = {
    embedding_pb2.OUTPUT_TYPE_FLOAT: np.dtype("<f4"),
    embedding_pb2.OUTPUT_TYPE_INT8: np.dtype("i1"),
    embedding_pb2.OUTPUT_TYPE_UINT8: np.dtype("u1"),
    embedding_pb2.OUTPUT_TYPE_BINARY: np.dtype("i1"),
    embedding_pb2.OUTPUT_TYPE_UBINARY: np.dtype("u1"),
}
_SUFFIXES = {"-query": "query", "-passage": "passage"}


def create_router(embedding: Backend, directory: Directory) -> APIRouter:
    """Return the routes, served by the service behind `embedding`."""
    router = APIRouter(route_class=JsonRoute, tags=["embeddings"])

    @router.post("/v1/embeddings", responses={200: {"model": EmbeddingsResponse}, **RESPONSES})
    async def embed(body: EmbeddingsRequest, timeout_ms: TimeoutMs = None) -> Response:
        """Return one vector for every input."""
        request = to_proto(body)
        await _take_suffix(request, directory)
        with public_names({"inputs": "input"}):
            reply = await embedding.call(EMBED, request, seconds(timeout_ms))
        return Response(await _to_json(reply, body.encoding_format), media_type="application/json")

    return router


def to_proto(body: EmbeddingsRequest) -> embedding_pb2.EmbedRequest:
    """Return the request as the service takes it."""
    return embedding_pb2.EmbedRequest(
        model=body.model,
        inputs=[_input(value) for value in body.input],
        input_type=embedding_pb2.InputType.Value(f"INPUT_TYPE_{(body.input_type or 'unspecified').upper()}"),
        truncate=embedding_pb2.Truncate.Value(f"TRUNCATE_{body.truncate}"),
        dimensions=body.dimensions or 0,
        output_type=embedding_pb2.OutputType.Value(f"OUTPUT_TYPE_{body.embedding_type.upper()}"),
    )


async def _take_suffix(request: embedding_pb2.EmbedRequest, directory: Directory) -> None:
    """Turn the model suffixes of NIM, `-query` and `-passage`, into the input type."""
    for suffix, side in _SUFFIXES.items():
        if request.model.endswith(suffix) and not await directory.has(request.model):
            request.model = request.model.removesuffix(suffix)
            request.input_type = embedding_pb2.InputType.Value(f"INPUT_TYPE_{side.upper()}")


def _input(value: str | list[int]) -> embedding_pb2.Input:
    if isinstance(value, str):
        return embedding_pb2.Input(text=value)
    return embedding_pb2.Input(tokens=embedding_pb2.TokenIds(ids=value))


async def _to_json(reply: embedding_pb2.EmbedResponse, encoding_format: str) -> bytes:
    """Return the JSON body. Other requests get a turn between the parts of a large one."""
    dtype = _DTYPES[reply.output_type] if encoding_format == "float" else None
    rows: list[orjson.Fragment] = []
    for embedding in reply.embeddings:
        rows.append(_row(embedding, dtype))
        if len(rows) % ROWS_AT_A_TIME == 0:
            await asyncio.sleep(0)
    tokens = reply.usage.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": rows, "model": reply.model, "usage": usage})


def _row(embedding: embedding_pb2.Embedding, dtype: "np.dtype[Any] | None") -> orjson.Fragment:
    """Return one element of `data`: numbers of `dtype`, or base64 where there is none."""
    vector: Any
    if dtype is None:
        vector = binascii.b2a_base64(embedding.data, newline=False).decode()
    else:
        vector = np.frombuffer(embedding.data, dtype)
    row = {"object": "embedding", "index": embedding.index, "embedding": vector}
    return orjson.Fragment(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY))
