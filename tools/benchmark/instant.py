"""Services without work: every answer was made beforehand. What is left to measure is who stands in front of them.

`python -m tools.benchmark.instant GRPC_PORT HTTP_PORT` answers calls of the embedding and the llm service by gRPC, and
by HTTP what an OpenAI server would, for peers. Every other POST is taken and thrown away, as by an OTLP collector.
"""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import uvloop
from flotilla.embedding.v1 import embedding_pb2
from flotilla.llm.v1 import llm_pb2
from grpc_health.v1 import health_pb2_grpc
from starlette.types import Receive, Scope, Send

from services.common.health import Health
from services.common.http import HttpServer
from services.common.server import grpc_server

EMBEDDING, CHAT = "instant-embedding", "instant-chat"
EMBED_METHOD = "/flotilla.embedding.v1.EmbeddingService/Embed"
CHAT_METHOD = "/flotilla.llm.v1.LlmService/Chat"
DIMENSIONS = 384
DELTAS = 64
"""Pieces of text in an answer."""
PROMPT_TOKENS = 12
MESSAGE_BYTES = 64 * 1024 * 1024
_WORDS = ("The ", "harbour ", "lamps ", "were ", "lit ", "at ", "dusk, ", "and ")


def deltas() -> list[str]:
    """Return the text of an answer, piece by piece."""
    return [_WORDS[i % len(_WORDS)] for i in range(DELTAS)]


class InstantCalls(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers gRPC calls with bytes."""

    def __init__(self) -> None:
        self._unary = {
            EMBED_METHOD: _embedding(),
            "/flotilla.embedding.v1.EmbeddingService/ListModels": embedding_pb2.ListModelsResponse(
                models=[embedding_pb2.Model(id=EMBEDDING, dimensions=DIMENSIONS, triton_model="instant_embedding")]
            ).SerializeToString(),
            "/flotilla.llm.v1.LlmService/ListModels": llm_pb2.ListModelsResponse(
                models=[llm_pb2.Model(id=CHAT, triton_model="instant_chat")]
            ).SerializeToString(),
        }
        self._chat = _chat()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call; None where there is no answer."""
        method = handler_call_details.method
        if method == CHAT_METHOD:
            return grpc.unary_stream_rpc_method_handler(self._stream)
        answer = self._unary.get(method)
        return None if answer is None else grpc.unary_unary_rpc_method_handler(_always(answer))

    async def _stream(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for piece in self._chat:
            yield piece


def _always(answer: bytes) -> Any:
    async def handle(_request: bytes, _context: Any) -> bytes:
        return answer

    return handle


def _vector() -> bytes:
    return np.random.default_rng(7).standard_normal(DIMENSIONS).astype("<f4").tobytes()


def _embedding() -> bytes:
    return embedding_pb2.EmbedResponse(
        model=EMBEDDING,
        embeddings=[embedding_pb2.Embedding(data=_vector(), tokens=PROMPT_TOKENS)],
        dimensions=DIMENSIONS,
        output_type=embedding_pb2.OUTPUT_TYPE_FLOAT,
        usage=embedding_pb2.Usage(prompt_tokens=PROMPT_TOKENS),
    ).SerializeToString()


def _chat() -> list[bytes]:
    usage = llm_pb2.Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=DELTAS)
    pieces = [llm_pb2.ChatResponse(model=CHAT, text=text, tokens=[i]) for i, text in enumerate(deltas())]
    pieces.append(llm_pb2.ChatResponse(model=CHAT, finish_reason=llm_pb2.FINISH_REASON_STOP))
    pieces.append(llm_pb2.ChatResponse(model=CHAT, usage=usage))
    return [piece.SerializeToString() for piece in pieces]


class InstantHttp:
    """Answers as an OpenAI server would. An event stream is written in one piece, which is least work to read."""

    def __init__(self) -> None:
        self._base64 = self._body(base64.b64encode(_vector()).decode())
        self._floats = self._body(np.frombuffer(_vector(), "<f4").tolist())
        self._events = _events()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        kind, answer = b"application/json", b"{}"
        if scope["path"].endswith("/embeddings"):
            answer = self._base64 if b'"base64"' in body else self._floats
        elif scope["path"].endswith("/chat/completions"):
            kind, answer = b"text/event-stream", self._events
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    @staticmethod
    def _body(vector: Any) -> bytes:
        usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        return json.dumps({"object": "list", "data": data, "model": EMBEDDING, "usage": usage}).encode()


def _events() -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": CHAT}
    changes = [{"role": "assistant", "content": ""}, *({"content": text} for text in deltas())]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": change, "finish_reason": None} for change in changes]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    lines = [b"data: " + json.dumps({**head, "choices": [choice]}).encode() for choice in choices]
    return b"\n\n".join([*lines, b"data: [DONE]", b""])


async def serve(grpc_port: int, http_port: int) -> None:
    """Serve on loopback until stopped."""
    health = Health.of([], [])
    server = grpc_server(MESSAGE_BYTES, [])
    server.add_generic_rpc_handlers((InstantCalls(),))
    health_pb2_grpc.add_HealthServicer_to_server(health.grpc, server)
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    await health.open()
    await HttpServer(InstantHttp(), "127.0.0.1", http_port, ws="none", lifespan="off").serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
