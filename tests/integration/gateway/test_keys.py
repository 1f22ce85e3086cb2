"""API keys: who gets in, for what, over HTTP and gRPC, and what is never told."""

import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from flotilla.asr.v1 import asr_pb2, asr_pb2_grpc
from flotilla.embedding.v1 import embedding_pb2, embedding_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common.errors import Kind, from_rpc_error
from services.common.triton import service_pb2, service_pb2_grpc
from tests.integration.gateway.chat_bodies import USER
from tests.integration.gateway.fake_asr import MODEL as SPEECH_MODEL
from tests.integration.gateway.fake_asr import FakeAsr
from tests.integration.gateway.fake_embedding import MODEL, TRITON_MODEL, FakeEmbedding
from tests.integration.gateway.fake_llm import MODEL as CHAT_MODEL
from tests.integration.gateway.fake_llm import FakeLlm
from tests.integration.gateway.gateway import Gateway, running
from tests.integration.gateway.key_files import Keys, bearer
from tests.waiting import until

NOW = datetime.now(UTC)
FLOAT = embedding_pb2.OUTPUT_TYPE_FLOAT


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path / "keys.json")
    keys.add()
    return keys


@pytest.fixture
async def guarded(embedding: FakeEmbedding, llm: FakeLlm, keys: Keys) -> AsyncIterator[Gateway]:
    async with running(embedding.address, llm_addresses=llm.address, keys_file=str(keys.path)) as gateway:
        yield gateway


async def known(gateway: Gateway, secret: str) -> None:
    """Wait until the gateway has read the key."""

    async def found() -> bool:
        response = await gateway.http.get("/v1/version", headers=bearer(secret))
        return response.status_code != 401

    await until(found, "the key")


async def with_key(gateway: Gateway, keys: Keys, **scope: Any) -> dict[str, str]:
    secret = keys.add(**scope)
    await known(gateway, secret)
    return bearer(secret)


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    return error


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_a_key_lets_in_and_services_hear_whose_it_is(
    guarded: Gateway, embedding: FakeEmbedding, keys: Keys, header: str
) -> None:
    secret = keys.add(priority=-3)
    await known(guarded, secret)
    spoofed = {"x-flotilla-principal": "root", "x-flotilla-priority": "-99"}
    credentials = f"bearer {secret}" if header == "authorization" else secret
    response = await guarded.http.post(
        "/v1/embeddings", json={"model": MODEL, "input": "a"}, headers={header: credentials, **spoofed}
    )
    assert response.status_code == 200
    seen = embedding.metadata[-1]
    assert (seen["x-flotilla-principal"], seen["x-flotilla-priority"]) == (secret.split("_")[1], "-3")
    assert not {"authorization", "x-api-key"} & seen.keys()


ROUTES = [
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/metadata"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/v2"),
    ("POST", f"/v2/models/{TRITON_MODEL}/infer"),
    ("GET", "/nope"),
    ("OPTIONS", "/v1/models"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_key_no_route_answers(guarded: Gateway, method: str, path: str) -> None:
    response = await guarded.http.request(method, path, content=b"{}")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="flotilla"'
    assert "x-request-id" in response.headers


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer"}, "missing_api_key"),
        ({"authorization": "Basic abc"}, "missing_api_key"),
        ({"authorization": "Bearer none"}, "invalid_api_key"),
        ({"authorization": "Bearer flt_000000000000_" + "0" * 64}, "invalid_api_key"),
        ({"x-api-key": "flt_ü"}, "invalid_api_key"),
    ],
)
async def test_what_is_no_key_is_401(guarded: Gateway, credentials: dict[str, str], code: str) -> None:
    headers = {key: value.encode() for key, value in credentials.items()}
    response = await guarded.http.post("/v1/embeddings", json={"model": MODEL, "input": "a"}, headers=headers)
    error = error_of(response)
    assert (response.status_code, error["type"], error["code"]) == (401, "authentication_error", code)


async def test_the_id_alone_is_not_enough(guarded: Gateway, keys: Keys) -> None:
    secret = keys.add()
    await known(guarded, secret)
    wrong = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    assert (await guarded.http.get("/v1/models", headers=bearer(wrong))).status_code == 401


async def test_health_needs_no_key(guarded: Gateway) -> None:
    for path in ("/v1/health/live", "/v1/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert (await guarded.http.get(path)).status_code == 200
    stub = health_pb2_grpc.HealthStub(guarded.grpc)
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    kserve = service_pb2_grpc.GRPCInferenceServiceStub(guarded.grpc)
    assert (await kserve.ServerLive(service_pb2.ServerLiveRequest())).live
    assert (await kserve.ServerReady(service_pb2.ServerReadyRequest())).ready


async def test_metrics_and_documents_without_a_key_where_the_settings_say_so(
    embedding: FakeEmbedding, keys: Keys
) -> None:
    settings = {"keys_file": str(keys.path), "keyless_metrics": True, "keyless_documents": True}
    async with running(embedding.address, **settings) as gateway:
        for path in ("/metrics", "/v1/metrics", "/openapi.json"):
            assert (await gateway.http.get(path)).status_code == 200
        assert await _reflected(gateway)
        assert (await gateway.http.get("/v1/models")).status_code == 401


async def test_the_openapi_document_says_how_keys_are_sent(guarded: Gateway, keys: Keys) -> None:
    headers = await with_key(guarded, keys)
    document = (await guarded.http.get("/openapi.json", headers=headers)).json()
    assert document["components"]["securitySchemes"].keys() == {"bearer", "x-api-key"}
    assert document["security"] == [{"bearer": []}, {"x-api-key": []}]
    keyless = {
        path for path, verbs in document["paths"].items() if any(verb.get("security") == [] for verb in verbs.values())
    }
    assert keyless == {"/v1/health/live", "/v1/health/ready", "/v2/health/live", "/v2/health/ready"}
    assert "401" in document["paths"]["/v1/embeddings"]["post"]["responses"]


async def test_an_expired_key_is_refused(guarded: Gateway, keys: Keys) -> None:
    secret = keys.add(expires=NOW - timedelta(days=1))
    other = keys.add()
    await known(guarded, other)
    response = await guarded.http.get("/v1/models", headers=bearer(secret))
    assert (response.status_code, error_of(response)["code"]) == (401, "expired_api_key")


async def test_a_revoked_key_stops_within_two_seconds(guarded: Gateway, keys: Keys) -> None:
    secret = keys.add()
    await known(guarded, secret)
    keys.revoke(secret)
    began = time.monotonic()

    async def refused() -> bool:
        return (await guarded.http.get("/v1/version", headers=bearer(secret))).status_code == 401

    await until(refused, "the refusal")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("breakage", ["broken", "missing"])
async def test_a_broken_file_keeps_the_keys_and_says_so(
    guarded: Gateway, keys: Keys, caplog: pytest.LogCaptureFixture, breakage: str
) -> None:
    secret = keys.add()
    await known(guarded, secret)
    good = keys.path.read_text()
    if breakage == "broken":
        keys.path.write_text("{")
    else:
        keys.path.unlink()

    async def stale() -> bool:
        return bool((await guarded.http.get("/v1/health/ready")).json()["keys"]["stale"])

    await until(stale, "the notice")
    assert (await guarded.http.get("/v1/version", headers=bearer(secret))).status_code == 200
    text = (await guarded.http.get("/metrics", headers=bearer(secret))).text
    assert "flotilla_gateway_keys_stale 1.0" in text
    assert "stay in force" in caplog.text
    keys.path.write_text(good)

    async def in_force() -> bool:
        return not await stale()

    await until(in_force, "the mended file")


async def test_models_that_a_key_does_not_cover(guarded: Gateway, keys: Keys, llm: FakeLlm) -> None:
    headers = await with_key(guarded, keys, models=[CHAT_MODEL])
    guarded.http.headers.update(headers)
    response = await guarded.embed()
    error = error_of(response)
    assert (response.status_code, error["type"], error["code"]) == (403, "permission_error", "model_not_allowed")
    assert MODEL in error["message"]
    assert error["param"] == "model"
    for stream in (False, True):
        body = {"model": CHAT_MODEL, "messages": [USER], "stream": stream}
        assert (await guarded.http.post("/v1/chat/completions", json=body)).status_code == 200
        refused = await guarded.http.post("/v1/chat/completions", json={**body, "model": "other"})
        assert refused.status_code == 403
    assert [row["id"] for row in (await guarded.http.get("/v1/models")).json()["data"]] == [CHAT_MODEL]
    missing = await guarded.http.get(f"/v1/models/{MODEL}")
    assert missing.status_code == 404
    assert f"loaded: {CHAT_MODEL}" in missing.text
    assert (await guarded.http.get("/tokenizer_info", params={"model": CHAT_MODEL})).status_code == 200
    assert MODEL not in (await guarded.http.get("/v1/metadata")).text


async def test_patterns_cover_models_and_their_names_in_triton(guarded: Gateway, keys: Keys) -> None:
    headers = await with_key(guarded, keys, models=["fake-mod*"])
    guarded.http.headers.update(headers)
    assert (await guarded.embed()).status_code == 200
    metadata = tuple(headers.items())
    kserve = service_pb2_grpc.GRPCInferenceServiceStub(guarded.grpc)
    assert await kserve.ModelReady(service_pb2.ModelReadyRequest(name=TRITON_MODEL), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kserve.ModelReady(service_pb2.ModelReadyRequest(name="fake_chat"), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_services_and_routes_that_a_key_does_not_cover(guarded: Gateway, keys: Keys) -> None:
    guarded.http.headers.update(await with_key(guarded, keys, services=["llm"]))
    response = await guarded.embed()
    assert (response.status_code, error_of(response)["code"]) == (403, "service_not_allowed")
    guarded.http.headers.update(await with_key(guarded, keys, routes=["/v1/models", "/v1/version"]))
    assert (await guarded.http.get("/v1/models")).status_code == 200
    response = await guarded.embed()
    assert (response.status_code, error_of(response)["code"]) == (403, "route_not_allowed")
    assert "/v1/embeddings" in error_of(response)["message"]


@pytest.mark.parametrize("form", ["authorization", "x-api-key", None])
async def test_grpc_asks_for_the_key_in_metadata(
    guarded: Gateway, embedding: FakeEmbedding, keys: Keys, form: str | None
) -> None:
    secret = keys.add(priority=7)
    await known(guarded, secret)
    stub = embedding_pb2_grpc.EmbeddingServiceStub(guarded.grpc)
    request = embedding_pb2.EmbedRequest(model=MODEL, inputs=[embedding_pb2.Input(text="a")], output_type=FLOAT)
    spoofed = (("x-flotilla-principal", "root"),)
    if form is None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Embed(request, metadata=spoofed)
        assert from_rpc_error(caught.value).kind is Kind.UNAUTHENTICATED
        assert not embedding.requests
        return
    credentials = ((form, f"Bearer {secret}" if form == "authorization" else secret),)
    reply = await stub.Embed(request, metadata=spoofed + credentials)
    assert len(reply.embeddings) == 1
    seen = embedding.metadata[-1]
    assert (seen["x-flotilla-principal"], seen["x-flotilla-priority"]) == (secret.split("_")[1], "7")
    assert form not in seen


@pytest.mark.parametrize("method", ["ServerMetadata", "RepositoryIndex", "ModelInfer", "ModelStreamInfer"])
async def test_kserve_asks_for_a_key_too(guarded: Gateway, method: str) -> None:
    call = guarded.grpc.unary_unary(f"/inference.GRPCInferenceService/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "method",
    ["/nvidia.riva.asr.RivaSpeechRecognition/Recognize", "/no.Such/Method", "/flotilla.llm.v1.LlmService/Chat"],
)
async def test_every_other_call_asks_for_a_key(guarded: Gateway, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await guarded.grpc.unary_unary(method)(b"")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def _reflected(gateway: Gateway, metadata: Any = ()) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(gateway.grpc)
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    replies = [reply async for reply in stub.ServerReflectionInfo(requests, metadata=metadata)]
    return [service.name for reply in replies for service in reply.list_services_response.service]


async def test_reflection_asks_for_a_key(guarded: Gateway, keys: Keys) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _reflected(guarded)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    headers = await with_key(guarded, keys)
    assert "flotilla.llm.v1.LlmService" in await _reflected(guarded, tuple(headers.items()))


async def test_grpc_scopes(guarded: Gateway, keys: Keys, embedding: FakeEmbedding) -> None:
    stub = embedding_pb2_grpc.EmbeddingServiceStub(guarded.grpc)
    other = tuple((await with_key(guarded, keys, models=["other"])).items())
    llm_only = tuple((await with_key(guarded, keys, services=["llm"])).items())
    kserve_only = tuple((await with_key(guarded, keys, routes=["/inference.*", "/v1/version"])).items())
    request = embedding_pb2.EmbedRequest(inputs=[embedding_pb2.Input(text="a")])
    for metadata, words in ((other, "model named"), (llm_only, "'embedding'"), (kserve_only, "/Embed")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Embed(request, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert words in (caught.value.details() or "")
    assert not embedding.requests
    listed = await stub.ListModels(embedding_pb2.ListModelsRequest(), metadata=other)
    assert not listed.models


async def test_kserve_lists_and_answers_for_covered_models_only(guarded: Gateway, keys: Keys) -> None:
    for models, listed in (([MODEL], [TRITON_MODEL]), (["other"], [])):
        headers = await with_key(guarded, keys, models=models)
        index = await guarded.http.post("/v2/repository/index", json={}, headers=headers)
        assert [row["name"] for row in index.json()] == listed
        assert (await guarded.http.get("/v2/models/stats", headers=headers)).status_code == 200
        for what in ("", "/ready", "/config", "/stats"):
            response = await guarded.http.get(f"/v2/models/{TRITON_MODEL}{what}", headers=headers)
            assert (response.status_code == 403) == (not listed), what


async def test_every_message_of_a_stream_is_looked_at(guarded: Gateway, keys: Keys) -> None:
    metadata = tuple((await with_key(guarded, keys, models=[MODEL])).items())
    kserve = service_pb2_grpc.GRPCInferenceServiceStub(guarded.grpc)
    requests = iter([service_pb2.ModelInferRequest(model_name="fake_chat")] * 2)
    answers = [answer async for answer in kserve.ModelStreamInfer(requests, metadata=metadata)]
    assert ["does not cover model 'fake_chat'" in answer.error_message for answer in answers] == [True, True]


async def test_a_later_configuration_is_looked_at_too(asr: FakeAsr, keys: Keys) -> None:
    metadata = tuple(bearer(keys.add(models=[SPEECH_MODEL])).items())
    configurations = [asr_pb2.TranscriptionConfig(model=model) for model in (SPEECH_MODEL, "other")]
    async with running(asr_addresses=asr.address, keys_file=str(keys.path)) as gateway:
        stub = asr_pb2_grpc.AsrServiceStub(gateway.grpc)
        requests = iter([asr_pb2.TranscribeFileRequest(config=config) for config in configurations])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            assert not [answer async for answer in stub.TranscribeFile(requests, metadata=metadata)]
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_no_key_in_any_log_trace_error_or_metric(
    embedding: FakeEmbedding, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    good = keys.add(models=[MODEL])
    secrets = [good, "flt_0123456789ab_" + "f" * 64, "sk-something-0f9a8b7c6d"]
    texts = []
    tracer = provider.get_tracer("test")
    async with running(embedding.address, tracer=tracer, keys_file=str(keys.path)) as gateway:
        for secret in secrets:
            for model in (MODEL, "other"):
                body = {"model": model, "input": "a"}
                texts.append((await gateway.http.post("/v1/embeddings", json=body, headers=bearer(secret))).text)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await gateway.grpc.unary_unary("/no.Such/Method")(b"", metadata=tuple(bearer(secret).items()))
            texts.append(str(caught.value))
        texts.append((await gateway.http.get("/metrics", headers=bearer(good))).text)
    texts += [caplog.text, *(span.to_json() for span in spans.get_finished_spans())]
    for secret in secrets:
        assert not [text for text in texts if secret.removeprefix("flt_")[13:] in text]


async def test_the_openai_client(guarded: Gateway, keys: Keys) -> None:
    secret = keys.add()
    await known(guarded, secret)
    url = f"http://127.0.0.1:{guarded.http_port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=secret) as client:
        assert (await client.embeddings.create(model=MODEL, input="a")).data
        stream = await client.chat.completions.create(model=CHAT_MODEL, messages=[USER], stream=True)  # type: ignore[call-overload]
        assert [chunk async for chunk in stream]
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="none").models.list()
        scoped = keys.add(models=["other"])
        await known(guarded, scoped)
        with pytest.raises(openai.PermissionDeniedError):
            await client.with_options(api_key=scoped).embeddings.create(model=MODEL, input="a")


async def test_a_refused_upload_is_read_so_that_its_sender_hears_why(guarded: Gateway) -> None:
    response = await guarded.http.post("/v1/classify", files={"file": b"x" * 5_000_000})
    assert response.status_code == 401
    assert (await guarded.http.get("/v1/health/live")).status_code == 200
