"""Limits of keys: exact under many clients, counted from what the services say, told truthfully."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from flotilla.embedding.v1 import embedding_pb2, embedding_pb2_grpc
from flotilla.llm.v1 import llm_pb2, llm_pb2_grpc
from flotilla.vision.v1 import vision_pb2, vision_pb2_grpc
from riva.client.proto import riva_asr_pb2 as riva
from riva.client.proto import riva_asr_pb2_grpc as riva_grpc

from services.common.errors import Kind, ServiceError, from_rpc_error
from tests.integration.gateway.chat_bodies import USER, chat, events
from tests.integration.gateway.fake_asr import SECONDS, FakeAsr
from tests.integration.gateway.fake_embedding import MODEL, FakeEmbedding
from tests.integration.gateway.fake_llm import MODEL as CHAT_MODEL
from tests.integration.gateway.fake_llm import FakeLlm
from tests.integration.gateway.fake_vision import FakeVision
from tests.integration.gateway.gateway import Gateway, running
from tests.integration.gateway.key_files import Keys, bearer
from tests.waiting import until

CLIENTS = 50


@asynccontextmanager
async def limited(path: Path, *addresses: str, **limits: Any) -> AsyncIterator[Gateway]:
    """Run a gateway whose client has a key with these limits; other settings have names that end in _addresses."""
    settings = {name: limits.pop(name) for name in list(limits) if name.endswith("_addresses")}
    keys = Keys(path / "keys.json")
    secret = keys.add(limits=limits)
    async with running(*addresses, keys_file=str(keys.path), **settings) as gateway:
        gateway.http.headers.update(bearer(secret))
        yield gateway


def metadata(gateway: Gateway) -> Any:
    return (("authorization", gateway.http.headers["authorization"]),)


def remaining(response: httpx.Response, unit: str) -> int:
    return int(response.headers[f"x-ratelimit-remaining-{unit}"])


async def used(gateway: Gateway, unit: str) -> float:
    """What the metrics say that the key has used."""
    text = (await gateway.http.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("flotilla_gateway_used_total")]
    return sum(float(line.split()[-1]) for line in lines if f'unit="{unit}"' in line)


async def storm(gateway: Gateway, count: int, **body: Any) -> tuple[int, int, float]:
    """Send `count` requests from each of 50 clients; return how many were answered, and refused, in which time."""
    statuses: list[int] = []

    async def client() -> None:
        for _ in range(count):
            statuses.append((await gateway.embed(**body)).status_code)

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    assert set(statuses) == {200, 429}
    return statuses.count(200), statuses.count(429), time.monotonic() - began


async def test_requests_are_exact_with_50_clients(tmp_path: Path, embedding: FakeEmbedding) -> None:
    async with limited(tmp_path, embedding.address, requests_per_minute=300) as gateway:
        answered, refused, seconds = await storm(gateway, 12)
    assert answered + refused == 600
    assert answered == pytest.approx(300 + 5 * seconds, rel=0.05)


async def test_tokens_are_exact_with_50_clients(tmp_path: Path, embedding: FakeEmbedding) -> None:
    text = "a" * 20
    async with limited(tmp_path, embedding.address, tokens_per_minute=18000) as gateway:
        answered, _, seconds = await storm(gateway, 24, input=text)
        tokens = await used(gateway, "tokens")
    assert tokens == 20 * answered
    assert tokens == pytest.approx(18000 + 300 * seconds, rel=0.05)


async def test_concurrency_is_exact_with_50_clients(tmp_path: Path, embedding: FakeEmbedding) -> None:
    embedding.behave = embedding.hang
    async with limited(tmp_path, embedding.address, concurrency=7) as gateway:
        calls = [asyncio.create_task(gateway.embed()) for _ in range(CLIENTS)]
        await until(lambda: sum(call.done() for call in calls) == CLIENTS - 7, "the refusals")
        embedding.release.set()
        statuses = [(await call).status_code for call in calls]
        assert (statuses.count(200), statuses.count(429)) == (7, CLIENTS - 7)
        assert (await gateway.embed()).status_code == 200


async def test_a_refusal_says_when_to_come_back_and_that_is_true(tmp_path: Path, embedding: FakeEmbedding) -> None:
    async with limited(tmp_path, embedding.address, requests_per_minute=60) as gateway:
        while (response := await gateway.embed()).status_code == 200:
            pass
        error = response.json()["error"]
        assert (response.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
        assert "requests_per_minute is 60" in error["message"]
        assert response.headers["retry-after"] == "1"
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
        await asyncio.sleep(int(response.headers["retry-after-ms"]) / 1000 + 0.01)
        assert (await gateway.embed()).status_code == 200


async def test_headers_are_those_of_openai(tmp_path: Path, embedding: FakeEmbedding) -> None:
    limits = {"requests_per_minute": 100, "requests_per_day": 50, "tokens_per_minute": 1000, "images_per_day": 5}
    async with limited(tmp_path, embedding.address, **limits) as gateway:
        headers = (await gateway.embed(input="a" * 100)).headers
    assert headers["x-ratelimit-limit-requests"] == "50"  # the tighter of two
    assert headers["x-ratelimit-remaining-requests"] == "49"
    assert headers["x-ratelimit-limit-tokens"] == "1000"
    assert 899 <= int(headers["x-ratelimit-remaining-tokens"]) <= 901
    assert headers["x-ratelimit-reset-tokens"] in {"6s", "5s"}
    assert headers["x-ratelimit-remaining-images"] == "5"
    assert headers["x-ratelimit-reset-images"] == "0ms"


async def test_a_used_up_day_is_named(tmp_path: Path, embedding: FakeEmbedding) -> None:
    async with limited(tmp_path, embedding.address, requests_per_day=1) as gateway:
        await gateway.embed()
        response = await gateway.embed()
    assert response.json()["error"]["code"] == "insufficient_quota"
    assert 0 < int(response.headers["retry-after"]) <= 86_400


async def test_a_key_without_limits_has_no_such_headers(tmp_path: Path, embedding: FakeEmbedding) -> None:
    async with limited(tmp_path, embedding.address) as gateway:
        response = await gateway.embed()
        assert not [name for name in response.headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_of_chats_are_counted_as_the_service_says(tmp_path: Path, llm: FakeLlm, stream: bool) -> None:
    async with limited(tmp_path, llm_addresses=llm.address, tokens_per_minute=1000) as gateway:
        response = await chat(gateway, stream=stream, max_tokens=300)
        assert response.status_code == 200
        if stream:
            assert events(response)
            assert remaining(response, "tokens") < 700  # what the answer may need is reserved
        else:
            assert remaining(response, "tokens") == 992
        assert await used(gateway, "tokens") == 8
        models = await gateway.http.get("/v1/models")
        assert remaining(models, "tokens") >= 992


@pytest.mark.parametrize("over_grpc", [False, True])
async def test_a_stream_whose_client_leaves_is_counted(tmp_path: Path, llm: FakeLlm, over_grpc: bool) -> None:
    llm.says(llm_pb2.ChatResponse(model=CHAT_MODEL, text="Hello", tokens=[1] * 40), llm.hang)
    content = "x" * 400
    async with limited(tmp_path, llm_addresses=llm.address, tokens_per_minute=1000) as gateway:
        if over_grpc:
            request = llm_pb2.ChatRequest(
                model=CHAT_MODEL, messages=[llm_pb2.Message(role=llm_pb2.ROLE_USER, content=content)]
            )
            call = llm_pb2_grpc.LlmServiceStub(gateway.grpc).Chat(request, metadata=metadata(gateway))
            await call.read()
            call.cancel()
        else:
            body = {"model": CHAT_MODEL, "messages": [{**USER, "content": content}], "stream": True}
            async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as response:
                async for line in response.aiter_lines():
                    if "Hello" in line:
                        break
        await asyncio.wait_for(llm.idle.wait(), 10)

        async def counted() -> float:
            return await used(gateway, "tokens")

        assert 140 <= await until(counted, "the count") <= 160  # 40 that came, and about 100 of the prompt


async def test_what_fails_costs_nothing(tmp_path: Path, llm: FakeLlm) -> None:
    llm.fails(ServiceError(Kind.UNAVAILABLE, "away"))
    async with limited(tmp_path, llm_addresses=llm.address, tokens_per_minute=1000) as gateway:
        for _ in range(5):
            assert (await chat(gateway, max_tokens=900)).status_code == 503
        assert await used(gateway, "tokens") == 0


async def test_images_are_counted(tmp_path: Path, vision: FakeVision) -> None:
    files = [("file", ("a.jpg", b"1", "image/jpeg"))] * 3
    async with limited(tmp_path, vision_addresses=vision.address, images_per_minute=4) as gateway:
        response = await gateway.http.post("/v1/classify", files=files)
        assert (response.status_code, remaining(response, "images")) == (200, 1)
        response = await gateway.http.post("/v1/classify", files=files)
        assert response.status_code == 429
        assert 25 <= int(response.headers["retry-after"]) <= 30
        stub = vision_pb2_grpc.VisionServiceStub(gateway.grpc)
        request = vision_pb2.ClassifyRequest(images=[vision_pb2.Image(data=b"1")] * 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Classify(request, metadata=metadata(gateway))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_seconds_of_audio_are_counted(tmp_path: Path, asr: FakeAsr) -> None:
    files = {"file": ("a.wav", b"RIFF", "audio/wav")}
    async with limited(tmp_path, asr_addresses=asr.address, audio_seconds_per_day=1) as gateway:
        response = await gateway.http.post("/v1/audio/transcriptions", files=files)
        assert response.status_code == 200
        assert await used(gateway, "audio_seconds") > 0


async def test_riva_is_counted_by_the_audio_worked_on(tmp_path: Path, asr: FakeAsr) -> None:
    async with limited(tmp_path, asr_addresses=asr.address, audio_seconds_per_minute=6) as gateway:
        stub = riva_grpc.RivaSpeechRecognitionStub(gateway.grpc)
        await stub.Recognize(riva.RecognizeRequest(audio=b"1"), metadata=metadata(gateway))
        assert await used(gateway, "audio_seconds") == SECONDS
        first = riva.StreamingRecognizeRequest()
        first.streaming_config.config.sample_rate_hertz = 16_000
        requests = [first, riva.StreamingRecognizeRequest(audio_content=b"1")]
        answers = [answer async for answer in stub.StreamingRecognize(iter(requests), metadata=metadata(gateway))]
        assert answers
        assert await used(gateway, "audio_seconds") == 2 * SECONDS
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Recognize(riva.RecognizeRequest(audio=b"1"), metadata=metadata(gateway))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_grpc_is_limited_and_says_when_to_come_back(tmp_path: Path, embedding: FakeEmbedding) -> None:
    request = embedding_pb2.EmbedRequest(
        model=MODEL, inputs=[embedding_pb2.Input(text="a" * 50)], output_type=embedding_pb2.OUTPUT_TYPE_FLOAT
    )
    async with limited(tmp_path, embedding.address, tokens_per_minute=100) as gateway:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(gateway.grpc)
        await stub.Embed(request, metadata=metadata(gateway))
        await stub.Embed(request, metadata=metadata(gateway))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Embed(request, metadata=metadata(gateway))
        error = from_rpc_error(caught.value)
        assert (caught.value.code(), error.code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limit_exceeded")
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 30
        assert await used(gateway, "tokens") == 100


async def test_the_openai_client_waits_as_it_is_told(tmp_path: Path, embedding: FakeEmbedding) -> None:
    async with limited(tmp_path, embedding.address, requests_per_minute=120) as gateway:
        for _ in range(121):
            await gateway.embed()
        url, key = f"http://127.0.0.1:{gateway.http_port}/v1", gateway.http.headers["authorization"].split()[1]
        async with openai.AsyncOpenAI(base_url=url, api_key=key) as client:
            assert (await client.embeddings.create(model=MODEL, input="a")).data
            with pytest.raises(openai.RateLimitError):
                for _ in range(121):
                    await client.with_options(max_retries=0).embeddings.create(model=MODEL, input="a")
