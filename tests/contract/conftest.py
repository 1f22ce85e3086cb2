from tests.integration.gateway.conftest import asr, asr_gateway, embedding, gateway, llm, llm_gateway

__all__ = ["asr", "asr_gateway", "embedding", "gateway", "llm", "llm_gateway"]
