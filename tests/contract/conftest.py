from tests.integration.gateway.conftest import embedding, gateway

__all__ = ["embedding", "gateway"]
