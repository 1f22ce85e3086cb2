from tests.integration.gateway.conftest import embedding, gateway, llm, llm_gateway

__all__ = ["embedding", "gateway", "llm", "llm_gateway"]
