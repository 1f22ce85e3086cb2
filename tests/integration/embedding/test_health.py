"""Health over gRPC and HTTP, reflection, and the names of the metrics."""

import re

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from services.embedding.servicer import SERVICE_NAME

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def health(channel):
    return health_pb2_grpc.HealthStub(channel)


@pytest.mark.parametrize("name", ["", SERVICE_NAME, "inference.GRPCInferenceService"])
async def test_check_says_serving(health, name):
    assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING


async def test_check_of_an_unknown_service_is_not_found(health):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("name", "status"), [(SERVICE_NAME, SERVING), ("nope", health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)]
)
async def test_watch_sends_the_status_at_once(health, name, status):
    call = health.Watch(health_pb2.HealthCheckRequest(service=name))
    assert (await call.read()).status == status
    call.cancel()


async def test_http_tells_the_phases(service):
    body = (await service.get("/v1/health/ready")).json()
    assert (body["ready"], body["message"]) == (True, "ready")
    assert [(phase["name"], phase["state"]) for phase in body["phases"]] == [
        ("fetch", "done"),
        ("load", "done"),
        ("warm", "done"),
    ]
    assert (await service.get("/v1/health/live")).status_code == 200


async def test_reflection_lists_the_services(service):
    with grpc.insecure_channel(service.address) as channel:
        names = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {SERVICE_NAME, "inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(names)


async def test_triton_metrics_are_passed_on(service):
    assert re.search(r"^nv_inference_count\{", (await service.get("/metrics")).text, re.MULTILINE)
