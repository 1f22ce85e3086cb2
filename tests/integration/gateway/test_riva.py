"""NVIDIA's own client of Riva, unmodified, against the gateway's gRPC port; and streams both ways in general."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc
import pytest
import riva.client
from riva.client.proto import riva_asr_pb2 as riva_pb
from riva.client.proto import riva_asr_pb2_grpc as riva_grpc

from services.common.errors import Kind, ServiceError, from_rpc_error
from tests.integration.gateway.fake_asr import MODEL, TEXT, FakeAsr
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running

PIECE = b"\x01\x00" * 1600
CONFIG = riva.client.RecognitionConfig(
    encoding=riva.client.AudioEncoding.LINEAR_PCM, sample_rate_hertz=16_000, language_code="en-US"
)
STREAMING = riva.client.StreamingRecognitionConfig(config=CONFIG, interim_results=True)
FIRST = riva_pb.StreamingRecognizeRequest(streaming_config=STREAMING)
AUDIO = riva_pb.StreamingRecognizeRequest(audio_content=PIECE)
Result = TypeVar("Result")


async def with_client(gateway: Gateway, use: Callable[[riva.client.ASRService], Result]) -> Result:
    """Use NVIDIA's client, which blocks, in a thread."""

    def run() -> Result:
        auth = riva.client.Auth(uri=f"127.0.0.1:{gateway.grpc_port}", metadata_args=[["x-own", "1"]])
        try:
            return use(riva.client.ASRService(auth))
        finally:
            auth.channel.close()

    return await asyncio.to_thread(run)


async def test_offline(asr_gateway: Gateway, asr: FakeAsr) -> None:
    reply = await with_client(asr_gateway, lambda service: service.offline_recognize(PIECE * 300, CONFIG))
    assert reply.results[0].alternatives[0].transcript == TEXT
    assert asr.heard.config.sample_rate_hertz == 16_000
    assert asr.heard.pieces == [len(PIECE) * 300]
    assert asr.metadata[-1]["x-own"] == "1"


async def test_config(asr_gateway: Gateway) -> None:
    reply = await with_client(
        asr_gateway,
        lambda service: service.stub.GetRivaSpeechRecognitionConfig(riva_pb.RivaSpeechRecognitionConfigRequest()),
    )
    assert [model.model_name for model in reply.model_config] == [MODEL]


async def test_streaming(asr_gateway: Gateway, asr: FakeAsr) -> None:
    def use(service: riva.client.ASRService) -> list[tuple[str, bool]]:
        answers = service.streaming_response_generator(iter([PIECE] * 3), STREAMING)
        return [(answer.results[0].alternatives[0].transcript, answer.results[0].is_final) for answer in answers]

    said = await with_client(asr_gateway, use)
    assert said == [("piece 1", False), ("piece 2", False), ("piece 3", False), (TEXT, True)]
    assert asr.heard.ended
    assert asr.heard.config.interim_results


async def test_a_refused_stream_is_told_as_it_was_meant(asr_gateway: Gateway, asr: FakeAsr) -> None:
    def use(service: riva.client.ASRService) -> list[grpc.StatusCode]:
        codes = []
        for _ in range(20):
            bad = riva.client.StreamingRecognitionConfig(config=riva.client.RecognitionConfig())
            with pytest.raises(grpc.RpcError) as caught:
                list(service.streaming_response_generator(iter([PIECE] * 100), bad))
            codes.append(caught.value.code())  # type: ignore[attr-defined]
        return codes

    assert set(await with_client(asr_gateway, use)) == {grpc.StatusCode.INVALID_ARGUMENT}
    await asyncio.wait_for(asr.idle.wait(), 10)


async def test_overload_of_a_stream_keeps_its_details(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.refusal = ServiceError(Kind.OVERLOADED, "every place is taken", code="streams_full", retry_after=2)

    def use(service: riva.client.ASRService) -> ServiceError:
        with pytest.raises(grpc.RpcError) as caught:
            list(service.streaming_response_generator(iter([PIECE] * 50), STREAMING))
        return from_rpc_error(caught.value)

    for _ in range(20):
        error = await with_client(asr_gateway, use)
        assert (error.kind, error.code, error.retry_after) == (Kind.OVERLOADED, "streams_full", 2)


async def test_answers_come_while_the_caller_still_speaks(asr_gateway: Gateway, asr: FakeAsr) -> None:
    call = riva_grpc.RivaSpeechRecognitionStub(asr_gateway.grpc).StreamingRecognize()
    await call.write(FIRST)
    for number in range(1, 4):
        await call.write(AUDIO)
        assert (await call.read()).results[0].alternatives[0].transcript == f"piece {number}"
    assert not asr.heard.ended
    await call.done_writing()
    assert (await call.read()).results[0].is_final
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_caller_that_leaves_ends_the_stream(asr_gateway: Gateway, asr: FakeAsr) -> None:
    call = riva_grpc.RivaSpeechRecognitionStub(asr_gateway.grpc).StreamingRecognize()
    await call.write(FIRST)
    await call.write(AUDIO)
    await call.read()
    call.cancel()
    await asyncio.wait_for(asr.idle.wait(), 10)


async def test_a_service_that_does_not_read_holds_the_caller_back(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.deaf, sent = True, [0]
    large = riva_pb.StreamingRecognizeRequest(audio_content=bytes(256 * 1024))
    call = riva_grpc.RivaSpeechRecognitionStub(asr_gateway.grpc).StreamingRecognize()
    await call.write(FIRST)

    async def speak() -> None:
        for _ in range(256):
            await call.write(large)
            sent[0] += 1
        await call.done_writing()

    speaking = asyncio.create_task(speak())
    await asyncio.wait_for(asr.entered.wait(), 10)
    before = -1
    while sent[0] != before:  # until it stands still
        before = sent[0]
        await asyncio.sleep(0.3)
    assert sent[0] < 100
    asr.release.set()
    answers = [answer async for answer in call]
    await speaking
    assert len(answers) == 257
    assert sum(asr.heard.pieces) == 64 * 2**20


async def test_a_service_that_goes_away_ends_the_stream(embedding: FakeEmbedding) -> None:
    async with FakeAsr().running() as asr, running(embedding.address, asr_addresses=asr.address) as gateway:
        call = riva_grpc.RivaSpeechRecognitionStub(gateway.grpc).StreamingRecognize()
        await call.write(FIRST)
        await call.write(AUDIO)
        await call.read()
        await asr.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await call.write(AUDIO)
                await call.read()
        assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def endless() -> Iterator[bytes]:
    while True:
        yield PIECE


async def test_a_service_that_ends_a_stream_early_ends_it_well(asr_gateway: Gateway, asr: FakeAsr) -> None:
    asr.most_pieces = 5

    def use(service: riva.client.ASRService) -> int:
        return len(list(service.streaming_response_generator(endless(), STREAMING)))

    for _ in range(10):
        assert await with_client(asr_gateway, use) == 6
