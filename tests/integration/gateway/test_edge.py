"""What every request gets: id, trace context, deadline, metrics."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, format_span_id

from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_request_id_and_trace_context_travel(gateway: Gateway, embedding: FakeEmbedding) -> None:
    headers = {"x-request-id": "my-id", "traceparent": TRACEPARENT, "tracestate": "a=b"}
    gateway.http.headers.update(headers)
    response = await gateway.embed()
    assert response.headers["x-request-id"] == "my-id"
    assert headers.items() <= embedding.metadata[-1].items()


async def test_a_request_without_an_id_gets_one(gateway: Gateway, embedding: FakeEmbedding) -> None:
    response = await gateway.http.get("/nope")
    assert len(response.headers["x-request-id"]) == 32


async def test_what_only_the_gateway_may_say_is_not_taken_from_clients(
    gateway: Gateway, embedding: FakeEmbedding
) -> None:
    gateway.http.headers.update({"x-flotilla-principal": "root", "x-flotilla-priority": "-9"})
    await gateway.embed()
    assert not {"x-flotilla-principal", "x-flotilla-priority"} & embedding.metadata[-1].keys()


async def test_the_deadline_of_the_client_reaches_the_service(gateway: Gateway, embedding: FakeEmbedding) -> None:
    await gateway.embed()
    gateway.http.headers["x-flotilla-timeout-ms"] = "5000"
    await gateway.embed()
    default, own = embedding.remaining
    assert default is not None
    assert own is not None
    assert own < 6 < default  # gRPC rounds deadlines up


async def test_a_missed_deadline_is_504_and_cancels_the_call(gateway: Gateway, embedding: FakeEmbedding) -> None:
    embedding.behave = embedding.hang
    gateway.http.headers["x-flotilla-timeout-ms"] = "50"
    response = await gateway.embed()
    assert response.status_code == 504
    assert "50 ms" in response.json()["error"]["message"]
    assert response.json()["error"]["type"] == "timeout_error"


@pytest.mark.parametrize("value", ["0", "-5", "soon", "1.5", ""])
async def test_a_bad_deadline_is_refused_by_name(gateway: Gateway, value: str) -> None:
    gateway.http.headers["x-flotilla-timeout-ms"] = value
    response = await gateway.embed()
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "x-flotilla-timeout-ms"


async def test_metrics_name_routes_not_paths(gateway: Gateway) -> None:
    await gateway.embed()
    await gateway.http.get("/v1/models/anything")
    await gateway.http.get("/some/scanner")
    text = (await gateway.http.get("/metrics")).text
    assert 'http_route="/v1/embeddings"' in text
    assert 'http_route="/v1/models/{model}"' in text
    assert 'http_route="unmatched"' in text
    assert "scanner" not in text
    assert 'rpc_method="flotilla.embedding.v1.EmbeddingService/Embed"' in text


async def test_answers_during_a_drain_close_their_connections(gateway: Gateway) -> None:
    await gateway.health.drain()
    response = await gateway.embed()
    assert response.status_code == 200
    assert response.headers["connection"] == "close"
    assert (await gateway.http.get("/v1/health/ready")).status_code == 503


async def test_a_fault_of_the_gateway_tells_nothing_and_is_logged(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(gateway.health, "body", broken)
    response = await gateway.http.get("/v1/health/ready")
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.json()["error"]["message"]
    assert "RuntimeError: secret" in caplog.text


async def test_the_span_of_a_request_is_between_the_caller_and_the_service(embedding: FakeEmbedding) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    async with running(embedding.address, tracer=provider.get_tracer("test")) as gateway:
        gateway.http.headers["traceparent"] = TRACEPARENT
        await gateway.embed()
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("POST /v1/embeddings", SpanKind.SERVER)
    assert span.parent is not None
    assert format_span_id(span.parent.span_id) == "b7ad6b7169203331"
    assert span.context is not None
    assert format_span_id(span.context.span_id) in embedding.metadata[-1]["traceparent"]
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200
