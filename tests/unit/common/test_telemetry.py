import json
import logging
import sys

import pytest
from opentelemetry import context, trace

from services.common import telemetry
from services.common.request_context import adopt_request_id


@pytest.fixture
def started(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    made = telemetry.start("test", "INFO")
    yield made
    made.close()
    root.handlers[:] = before
    root.setLevel(level)


def test_without_an_endpoint_no_span_is_recorded_and_no_exporter_loaded(started):
    assert isinstance(started.tracer, trace.NoOpTracer)
    assert not any("otlp.proto.grpc" in name for name in sys.modules)


def test_trace_ids_travel_without_a_recorder(started):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    token = context.attach(telemetry.extract({"traceparent": parent}))
    with started.tracer.start_as_current_span("x"):
        assert telemetry.inject()["traceparent"] == parent
    context.detach(token)


def test_logs_carry_request_and_trace(started, capfd):
    handler = logging.getLogger().handlers[0]
    token = context.attach(
        telemetry.extract({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    )
    adopt_request_id("the-request")
    record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "hello", (), None)
    assert handler.filter(record)
    context.detach(token)
    line = json.loads(handler.format(record))
    assert (line["request_id"], line["trace_id"]) == ("the-request", "0af7651916cd43dd8448eb211c80319c")
    assert (line["message"], line["service"]) == ("hello", "test")
