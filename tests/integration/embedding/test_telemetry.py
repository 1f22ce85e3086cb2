"""Traces leave by OTLP and continue the caller's; logs carry the request id and the trace id."""

import gzip
import http.server
import threading

import grpc
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.common.triton import service_pb2_grpc
from tests.bad_calls import infer
from tests.integration.service_process import ServiceProcess
from tests.waiting import until

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.fixture
def collector():
    """A tiny OTLP/HTTP receiver: its address and the bodies that were posted to /v1/traces."""
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                bodies.append(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()
        thread.join()


def spans(bodies):
    return [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


async def test_a_call_is_one_span_of_the_callers_trace(collector, model_store, tmp_path):
    endpoint, bodies = collector
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    metadata = (("traceparent", TRACEPARENT), ("x-request-id", "the-request"))
    async with ServiceProcess(tmp_path, environment) as service, service.channel() as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        await stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text="a")]), metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Embed(pb.EmbedRequest(), metadata=metadata)
        await until(lambda: len(spans(bodies)) >= 2, "spans")
        service.stubs()[0].kill()  # makes calls fail inside, which is logged

        async def logged() -> bool:
            try:
                await stub.Embed(pb.EmbedRequest(inputs=[pb.Input(text="a")]), metadata=metadata)
            except grpc.aio.AioRpcError:
                return True
            return not await service.ready()

        await until(logged, "the fault")
        await service.wait_ready()
    served = [span for span in spans(bodies) if span.name == "flotilla.embedding.v1.EmbeddingService/Embed"]
    assert {span.trace_id.hex() for span in served} == {TRACE_ID}
    assert {span.parent_span_id.hex() for span in served} >= {"b7ad6b7169203331"}
    codes = {a.value.string_value for span in served for a in span.attributes if a.key == "rpc.response.status_code"}
    assert {"OK", "INVALID_ARGUMENT"} <= codes


async def test_off_means_off(service):
    assert not [record for record in service.records() if "opentelemetry" in record["logger"]]


async def test_raw_kserve_calls_alone_show_in_the_saturation(model_store, tmp_path):
    async with ServiceProcess(tmp_path) as service, service.channel() as channel:
        assert await service.metric("flotilla_saturation") == 0
        await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer())
        assert await service.metric("flotilla_saturation") > 0
        assert await service.metric("flotilla_batch_items_count") == 0, "the warm-up counts as no traffic"
