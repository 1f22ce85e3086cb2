# ruff: noqa: N802
"""The gateway does what its OpenAPI document says: schemathesis sends what that allows and what not."""

import asyncio
import http
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.common.triton import service_pb2
from services.gateway.examples import request_for
from tests.integration.gateway.fake_asr import MODEL as SPEECH_MODEL
from tests.integration.gateway.fake_asr import FakeAsr
from tests.integration.gateway.fake_embedding import MODEL as EMBEDDING_MODEL
from tests.integration.gateway.fake_embedding import TRITON_MODEL, FakeEmbedding
from tests.integration.gateway.fake_llm import MODEL as LANGUAGE_MODEL
from tests.integration.gateway.fake_llm import FakeLlm
from tests.integration.gateway.fake_vision import CLASSIFIER, DETECTOR, FACE_FINDER, READER, FakeVision
from tests.integration.gateway.gateway import Gateway, running

EXAMPLES = 15
Statuses = dict[str, Counter[int]]
CONTRACT = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
MODELS = {
    "/v1/embeddings": EMBEDDING_MODEL,
    "/v1/rank": EMBEDDING_MODEL,
    "/v1/rerank": EMBEDDING_MODEL,
    "/v1/models": EMBEDDING_MODEL,
    "/v1/audio": SPEECH_MODEL,
    "/v1/classify": CLASSIFIER,
    "/v1/infer": CLASSIFIER,
    "/v1/detect": DETECTOR,
    "/v1/page-elements": DETECTOR,
    "/v1/faces": FACE_FINDER,
    "/v1/ocr": READER,
    "/v2/": TRITON_MODEL,
}
"""By the beginning of a path; the rest are routes of the language model."""


class Triton(FakeEmbedding):
    """The embedding service with what its Triton says of a model that takes and returns texts."""

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        text = {"name": "text", "datatype": "BYTES", "shape": [-1, 1]}
        return service_pb2.ModelMetadataResponse(
            name=TRITON_MODEL, versions=["1"], platform="python", inputs=[text], outputs=[text]
        )

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        text = {"name": "text", "data_type": "TYPE_STRING", "dims": [1]}
        return service_pb2.ModelConfigResponse(
            config={"name": TRITON_MODEL, "max_batch_size": 8, "input": [text], "output": [text]}
        )

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelStatisticsResponse(model_stats=[{"name": TRITON_MODEL, "version": "1"}])

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        raw = b"\x02\x00\x00\x00hi"
        text = {"name": "text", "datatype": "BYTES", "shape": [1, 1]}
        return service_pb2.ModelInferResponse(
            model_name=TRITON_MODEL, model_version="1", id=request.id, outputs=[text], raw_output_contents=[raw]
        )


@pytest.fixture(scope="module")
async def embedding() -> AsyncIterator[Triton]:
    async with Triton().running() as fake:
        yield fake


@pytest.fixture(scope="module")
async def whole_gateway(embedding: Triton) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        asr, llm, vision = [
            await stack.enter_async_context(fake.running()) for fake in (FakeAsr(), FakeLlm(), FakeVision())
        ]
        started = running(
            embedding.address, asr_addresses=asr.address, llm_addresses=llm.address, vision_addresses=vision.address
        )
        yield await stack.enter_async_context(started)


@pytest.fixture(scope="module")
async def document(whole_gateway: Gateway) -> dict[str, Any]:
    return (await whole_gateway.http.get("/openapi.json")).json()


def model_of(path: str) -> str:
    return next((model for beginning, model in MODELS.items() if path.startswith(beginning)), LANGUAGE_MODEL)


def name_model(case: Any) -> None:
    """Let a request name a model that is there."""
    model = model_of(case.operation.path)
    if "model" in case.path_parameters:
        case.path_parameters["model"] = model
    for part in (case.body, case.query):
        if isinstance(part, dict) and "model" in part:
            part["model"] = model


def explore(document: dict[str, Any], url: str, checks: list[Any], examples: int) -> tuple[dict[Any, str], Statuses]:
    """Send `examples` requests to every operation; return what fails, once for each check, and the statuses seen."""
    faults: dict[Any, str] = {}
    statuses: Statuses = defaultdict(Counter)

    def send(case: Any, known: bool) -> None:
        case.headers.pop("x-flotilla-timeout-ms", None)  # 1 ms is a 504, as it says
        if known:
            name_model(case)
        response = case.call(base_url=url)
        statuses[case.operation.label][response.status_code] += 1
        for check in checks:
            try:
                case.validate_response(response, checks=[check])
            except FailureGroup as failed:
                where = (case.operation.label, check.__name__, response.status_code)
                faults.setdefault(where, f"{failed.exceptions[0]} {case.as_curl_command()}")

    limits = settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        limits(given(case=found.ok().as_strategy(), known=st.booleans())(send))()
    return faults, statuses


async def test_nothing_fails_and_nothing_is_undocumented(whole_gateway: Gateway, document: dict[str, Any]) -> None:
    url = str(whole_gateway.http.base_url).rstrip("/")
    faults, statuses = await asyncio.to_thread(explore, document, url, [not_a_server_error, *CONTRACT], EXAMPLES)
    assert faults == {}, "\n".join(f"{where}: {fault}" for where, fault in faults.items())
    assert statuses.keys() == {
        f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations
    }
    assert len([label for label, seen in statuses.items() if 200 in seen]) > 30


async def test_refusals_of_services_that_are_down_are_documented(document: dict[str, Any]) -> None:
    """Nothing listens behind this gateway."""
    async with running("127.0.0.1:1", asr_addresses="127.0.0.1:1", llm_addresses="127.0.0.1:1") as gateway:
        url = str(gateway.http.base_url).rstrip("/")
        faults, statuses = await asyncio.to_thread(explore, document, url, CONTRACT, 3)
    assert faults == {}, "\n".join(f"{where}: {fault}" for where, fault in faults.items())
    assert {status for seen in statuses.values() for status in seen if status >= 500} == {http.HTTPStatus(503)}


def good(path: str) -> dict[str, Any]:
    """The documented example for a path, with the model of the fakes."""
    body = request_for(path) or {}
    if "detokenize" in path:
        return {"tokens": [72, 105]}
    return {**body, "model": model_of(path)} if path.startswith("/v1/") else body


async def post(gateway: Gateway, path: str, **changes: Any) -> httpx.Response:
    address = path.replace("{model}", TRITON_MODEL).replace("{version}", "1")
    fields = {**good(path), **changes}
    if path.startswith("/v1/audio"):
        fields.pop("file")
        return await gateway.http.post(address, files={"file": ("speech.wav", b"RIFF")}, data=fields)
    return await gateway.http.post(address, json=fields)


async def test_good_requests_are_answered_as_documented(whole_gateway: Gateway, document: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(document)
    calls: list[tuple[str, dict[str, Any]]] = [
        (path, {}) for path in document["paths"] if request_for(path) is not None
    ]
    streams = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
    calls += [(path, {"stream": True}) for path in streams]
    calls += [("/v1/responses", {"input": "hi"}), ("/v1/embeddings", {"encoding_format": "base64"})]
    formats = ("json", "text", "srt", "vtt", "verbose_json")
    calls += [("/v1/audio/transcriptions", {"response_format": kind}) for kind in formats]
    calls += [("/v1/audio/transcriptions", {"stream": "true"}), ("/v1/detect", {"annotate": True})]
    for path, changes in calls:
        response = await post(whole_gateway, path, **changes)
        assert response.status_code == 200, (path, changes, response.text)
        await response.request.aread()
        schema[path]["POST"].validate_response(response)
