"""docs/metrics.md lists exactly the metrics that a running service serves."""

import re

import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tests.integration.service_process import ROOT, ServiceProcess
from tests.waiting import until

SECTION = "## Every model service, and the embedding service"


def documented() -> dict[str, tuple[str, set[str]]]:
    text = (ROOT / "docs/metrics.md").read_text().split(SECTION, 1)[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", text, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


@pytest.fixture
async def served(tmp_path):
    ModelStore(CommonSettings().model_store).require("all-minilm-l6-v2", ["model.onnx"])
    environment = {"FLOTILLA_EMBEDDING_ADMISSION_CONCURRENCY": "1", "FLOTILLA_EMBEDDING_ADMISSION_QUEUE": "0"}
    async with ServiceProcess(tmp_path, environment) as service, service.channel() as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        call = stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text="word " * 200)] * 1000))

        async def running() -> bool:
            return await service.metric("flotilla_batch_items_count") > 0

        await until(running, "the first batch")
        with pytest.raises(grpc.aio.AioRpcError):  # refused: counts a rejection
            await stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text="a")]))
        call.cancel()  # counts cancelled items

        async def counted() -> bool:
            return await service.metric("flotilla_batch_items_cancelled_total") > 0

        await until(counted, "cancelled items")
        await stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text="a")]))
        text = (await service.get("/metrics")).text
    families = text_string_to_metric_families(text)
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families
        if not family.name.startswith("nv_")
    }


async def test_the_table_is_what_is_served(served):
    assert documented() == served
