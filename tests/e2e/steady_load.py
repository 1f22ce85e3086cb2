"""Fifty callers, each on one connection that it keeps, over HTTP, server-sent events and gRPC."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import grpc
import httpx
from flotilla.embedding.v1 import embedding_pb2, embedding_pb2_grpc
from flotilla.llm.v1 import llm_pb2, llm_pb2_grpc

from services.common.triton import service_pb2, service_pb2_grpc
from tests.integration.gateway.fake_embedding import MODEL, TRITON_MODEL
from tests.integration.gateway.fake_llm import MODEL as CHAT_MODEL
from tests.integration.gateway.fake_llm import STOP, USAGE

TEXTS = [f"text {number}" for number in range(200)]
SHORT, LONG = 20, 30  # words of a chat
WORD_SECONDS = 0.1
PAUSE_SECONDS = 0.02
LAST_CHARACTERS = 2_000_000  # what a gateway still has to send when nothing else keeps it from closing

Call = Callable[[], Awaitable[None]]
Caller = Callable[[str], AbstractAsyncContextManager[Call]]


class Story:
    """The script of the llm service: counts the words asked for; a long story ends with a large piece."""

    def __init__(self) -> None:
        self._goes_on = False

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Let no long story end while the block runs."""
        self._goes_on = True
        try:
            yield
        finally:
            self._goes_on = False

    def __call__(self, response: type[Any], request: Any) -> Iterator[Any]:
        words, number = request.sampling.max_tokens, 0
        while number < words or (words == LONG and self._goes_on):
            yield response(model=CHAT_MODEL, text=f"{number} ")
            yield partial(asyncio.sleep, WORD_SECONDS)
            number += 1
        if words == LONG:
            yield response(model=CHAT_MODEL, text=str(number).rjust(LAST_CHARACTERS))
        yield response(model=CHAT_MODEL, finish_reason=STOP)
        yield response(model=CHAT_MODEL, usage=USAGE)


class SteadyLoad:
    """Callers that go on until told to stop."""

    def __init__(self, url: str, grpc_address: str) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stopped = False
        self._callers: tuple[tuple[str, Caller, str, int], ...] = (
            ("embeddings over HTTP", embeddings, url, 20),
            ("short chats over SSE", partial(chat, words=SHORT), url, 5),
            ("long chats over SSE", partial(chat, words=LONG), url, 5),
            ("embeddings over gRPC", embed, grpc_address, 6),
            ("infer over gRPC", infer, grpc_address, 4),
            ("short chats over gRPC", partial(rpc_chat, words=SHORT), grpc_address, 2),
            ("long chats over gRPC", partial(rpc_chat, words=LONG), grpc_address, 4),
            ("infer both ways over gRPC", infer_stream, grpc_address, 4),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let all call while the block runs; return when each has its last answer."""
        tasks = [
            asyncio.create_task(self._go_on(kind, caller(address)))
            for kind, caller, address, count in self._callers
            for _ in range(count)
        ]
        assert len(tasks) == 50
        try:
            yield
        finally:
            self._stopped = True
            await asyncio.gather(*tasks)

    def answered_since(self, before: Counter[str]) -> bool:
        """Whether every kind of caller has had an answer to a call made after `before` was copied from `answers`."""
        assert not self.failures, self.failures
        return all(self.answers[kind] > before[kind] + count for kind, _, _, count in self._callers)

    async def _go_on(self, kind: str, caller: AbstractAsyncContextManager[Call]) -> None:
        async with caller as call:
            while not self._stopped:
                try:
                    await call()
                    self.answers[kind] += 1
                except Exception as error:  # whatever it is, it counts
                    self.failures.append(f"{kind}: {error!r}")
                await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60, limits=limits) as client:
        yield client


def channel_to(address: str) -> grpc.aio.Channel:
    own = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
    return grpc.aio.insecure_channel(address, options=own)


@asynccontextmanager
async def embeddings(url: str) -> AsyncIterator[Call]:
    async with connected(url) as client:

        async def call() -> None:
            response = await client.post("/v1/embeddings", json={"model": MODEL, "input": TEXTS})
            assert response.status_code == 200, response.text
            assert len(response.json()["data"]) == len(TEXTS)

        yield call


@asynccontextmanager
async def chat(url: str, words: int) -> AsyncIterator[Call]:
    body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "count"}], "max_tokens": words}
    async with connected(url) as client:

        async def call() -> None:
            async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
                assert response.status_code == 200, await response.aread()
                lines = [line async for line in response.aiter_lines() if line.startswith("data: ")]
            assert lines.pop() == "data: [DONE]"
            choices = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines]
            assert choices[-1]["finish_reason"] == "stop"
            assert_whole("".join(choice["delta"].get("content") or "" for choice in choices), words)

        yield call


@asynccontextmanager
async def embed(address: str) -> AsyncIterator[Call]:
    inputs = [embedding_pb2.Input(text=text) for text in TEXTS]
    request = embedding_pb2.EmbedRequest(model=MODEL, inputs=inputs, output_type=embedding_pb2.OUTPUT_TYPE_FLOAT)
    async with channel_to(address) as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)

        async def call() -> None:
            assert len((await stub.Embed(request)).embeddings) == len(TEXTS)

        yield call


@asynccontextmanager
async def infer(address: str) -> AsyncIterator[Call]:
    request = service_pb2.ModelInferRequest(model_name=TRITON_MODEL, id="7")
    async with channel_to(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def call() -> None:
            assert (await stub.ModelInfer(request)).id == "7"

        yield call


@asynccontextmanager
async def rpc_chat(address: str, words: int) -> AsyncIterator[Call]:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, content="count")
    request = llm_pb2.ChatRequest(model=CHAT_MODEL, messages=[message], sampling=llm_pb2.Sampling(max_tokens=words))
    async with channel_to(address) as channel:
        stub = llm_pb2_grpc.LlmServiceStub(channel)

        async def call() -> None:
            pieces = [piece async for piece in stub.Chat(request)]
            assert pieces[-1].usage == USAGE
            assert_whole("".join(piece.text for piece in pieces), words)

        yield call


@asynccontextmanager
async def infer_stream(address: str) -> AsyncIterator[Call]:
    async with channel_to(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def call() -> None:
            stream = stub.ModelStreamInfer()
            for number in map(str, range(LONG)):
                await stream.write(service_pb2.ModelInferRequest(model_name=TRITON_MODEL, id=number))
                assert (await stream.read()).infer_response.id == number
                await asyncio.sleep(WORD_SECONDS)
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
            assert await stream.code() is grpc.StatusCode.OK

        yield call


def assert_whole(text: str, words: int) -> None:
    numbers = [int(word) for word in text.split()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= words
