"""docs/metrics.md lists exactly the metrics that running services and a running gateway serve."""

import re

import grpc
import pytest
from flotilla.asr.v1 import asr_pb2, asr_pb2_grpc
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc
from flotilla.vision.v1 import vision_pb2, vision_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from services.common.errors import Kind, ServiceError
from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tests.integration.asr.engine_triton import SPEECH
from tests.integration.asr.process import asr_process
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.gateway import running, with_two_replicas
from tests.integration.gateway.key_files import Keys, bearer
from tests.integration.service_process import ROOT, ServiceProcess
from tests.integration.vision.known_pictures import LINES, page
from tests.integration.vision.process import vision_process
from tests.unit.vision.pictures import encoded, scene
from tests.waiting import until

Metrics = dict[str, tuple[str, set[str]]]
NOT_EVERY_TIME = {
    "flotilla_asr_fallbacks_total",
    "flotilla_asr_windows_dropped_total",
    "flotilla_asr_interims_skipped_total",
    "flotilla_batch_items_cancelled_total",
    "flotilla_batch_items_wasted_total",
}
"""Counted of speech that is hard to read, and on a busy machine."""


def documented(section: str) -> Metrics:
    text = (ROOT / "docs/metrics.md").read_text().split(f"\n## {section}\n", 1)[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", text, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


@pytest.fixture
async def served(tmp_path):
    ModelStore(CommonSettings().model_store).require("all-minilm-l6-v2", ["model.onnx"])
    environment = {"FLOTILLA_EMBEDDING_ADMISSION_CONCURRENCY": "1", "FLOTILLA_EMBEDDING_ADMISSION_QUEUE": "0"}
    async with ServiceProcess(tmp_path, environment) as service, service.channel() as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        call = stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text="word " * 200)] * 1000))

        async def begun() -> bool:
            return await service.metric("flotilla_batch_items_count") > 0

        await until(begun, "the first batch")
        with pytest.raises(grpc.aio.AioRpcError):  # refused: counts a rejection
            await stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text="a")]))
        call.cancel()  # counts cancelled items

        async def counted() -> bool:
            return await service.metric("flotilla_batch_items_cancelled_total") > 0

        await until(counted, "cancelled items")
        await stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text="a")]))
        text = (await service.get("/metrics")).text
    return read(text)


@pytest.fixture
async def served_by_vision(tmp_path):
    store = ModelStore(CommonSettings().model_store)
    for model in load_manifest().for_service("vision"):
        store.require(model.id, model.required_artifacts)
    limits = {"FLOTILLA_VISION_ADMISSION_CONCURRENCY": "1", "FLOTILLA_VISION_ADMISSION_QUEUE": "0"}
    async with vision_process(tmp_path, limits) as service, service.channel() as channel:
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        picture = vision_pb2.Image(data=encoded(scene()))
        lines = vision_pb2.Image(data=encoded(page(LINES * 40)))
        call = stub.ReadText(vision_pb2.ReadTextRequest(images=[lines]))

        async def reading() -> bool:
            return await service.metric("flotilla_batch_items_count", model="pp_ocrv6_rec") > 0

        await until(reading, "the first lines")
        with pytest.raises(grpc.aio.AioRpcError):  # refused: counts a rejection
            await stub.Classify(vision_pb2.ClassifyRequest(images=[picture]))
        call.cancel()  # counts cancelled items

        async def counted() -> bool:
            return await service.metric("flotilla_batch_items_cancelled_total") > 0

        await until(counted, "cancelled items")
        with pytest.raises(grpc.aio.AioRpcError):  # counts a refused picture
            await stub.Classify(vision_pb2.ClassifyRequest(images=[vision_pb2.Image(data=b"text")]))
        await stub.Classify(vision_pb2.ClassifyRequest(images=[picture]))
        text = (await service.get("/metrics")).text
    return read(text)


@pytest.fixture
async def served_by_asr(tmp_path):
    store = ModelStore(CommonSettings().model_store)
    for model in load_manifest().for_service("asr"):
        store.require(model.id, model.required_artifacts)
    async with asr_process(tmp_path, {"FLOTILLA_ASR_MAX_STREAMS": "1"}) as service, service.channel() as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        await stub.Transcribe(asr_pb2.TranscribeRequest(audio=SPEECH.read_bytes()))
        config = asr_pb2.TranscriptionConfig(language="en")
        config.audio.encoding, config.audio.sample_rate_hz = asr_pb2.ENCODING_FLAC, 16000
        begin = asr_pb2.StreamingTranscribeRequest(config=asr_pb2.StreamingConfig(config=config))
        first, second = stub.StreamingTranscribe(), stub.StreamingTranscribe()
        await first.write(begin)

        async def held() -> bool:
            return await service.metric("flotilla_asr_streams_active") == 1

        await until(held, "the only place to be taken")
        await second.write(begin)
        with pytest.raises(grpc.aio.AioRpcError):  # refused: counts a rejection
            await second.read()
        await first.write(asr_pb2.StreamingTranscribeRequest(audio=SPEECH.read_bytes()))
        await first.done_writing()
        assert [response async for response in first]
        text = (await service.get("/metrics")).text
    return read(text)


@pytest.fixture
async def served_by_gateway():
    async with with_two_replicas(metrics_addresses="embedding=127.0.0.1:1") as (gateway, one, _two):
        one.fail(ServiceError(Kind.NOT_STARTED, "draining"))  # so that a call is made again
        for _ in range(2):
            assert (await gateway.embed()).status_code == 200
        await embedding_pb2_grpc.EmbeddingServiceStub(gateway.grpc).ListModels(pb.ListModelsRequest())

        async def answered() -> str:
            text = (await gateway.http.get("/metrics")).text
            return text if "rpc_server_call_duration" in text else ""

        return read(await until(answered, "the call to be counted"))


@pytest.fixture
async def served_with_keys(tmp_path):
    keys = Keys(tmp_path / "keys.json")
    secret = keys.add(limits={"requests_per_day": 3})
    async with FakeEmbedding().running() as one, running(one.address, keys_file=str(keys.path)) as gateway:
        assert (await gateway.embed()).status_code == 401
        gateway.http.headers.update(bearer(secret))
        statuses = [(await gateway.embed()).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        return read(gateway.telemetry.prometheus_text())


def read(text: str) -> Metrics:
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(text)
        if not family.name.startswith("nv_")
    }


async def test_the_table_of_a_service_is_what_is_served(served):
    assert documented("Every model service, and the embedding service") == served


async def test_the_tables_of_the_vision_service_are_what_is_served(served_by_vision):
    common = documented("Every model service, and the embedding service")
    assert common | documented("The vision service, besides") == served_by_vision


async def test_the_tables_of_the_asr_service_are_what_is_served(served_by_asr):
    tables = documented("Every model service, and the embedding service") | documented("The ASR service, besides")
    happens = {name: row for name, row in tables.items() if name not in NOT_EVERY_TIME}
    assert happens.items() <= served_by_asr.items() <= tables.items()


async def test_the_table_of_the_gateway_is_what_is_served(served_by_gateway):
    assert documented("The gateway") == served_by_gateway


async def test_the_table_of_keys_is_what_is_served_besides(served_with_keys):
    usual = documented("The gateway")
    assert documented("The gateway with API keys, besides") == {
        name: metric for name, metric in served_with_keys.items() if name not in usual
    }
