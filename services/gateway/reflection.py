"""Server reflection of the gateway, from the contracts it forwards by.

The routing table names the services and the generated stubs describe them, so reflection and forwarding cannot
disagree, and the answer does not depend on which services are up.
"""

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from services.gateway.fleet import Fleet

KSERVE = "inference.GRPCInferenceService"


def add_reflection(fleet: Fleet, server: grpc.aio.Server) -> None:
    """Serve grpc.reflection.v1alpha on `server`."""
    own = [descriptor.full_name for descriptor in health_pb2.DESCRIPTOR.services_by_name.values()]
    own += [descriptor.full_name for descriptor in reflection_pb2.DESCRIPTOR.services_by_name.values()]
    forwarded = [name for service in fleet.services for name in service.grpc_names]
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ReflectionServicer([*own, KSERVE, *forwarded]), server)
