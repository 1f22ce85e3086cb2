"""Two gateways behind a real Envoy, each restarted in turn under load: no request fails and no stream is cut."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.envoy import Envoy, running, until_serving
from tests.e2e.gateway_process import GatewayProcess
from tests.e2e.steady_load import SteadyLoad, Story
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.fake_llm import FakeLlm
from tests.waiting import until


@pytest.mark.timeout(600)
async def test_a_rolling_restart_behind_envoy_loses_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        story = Story()
        embedding = await stack.enter_async_context(FakeEmbedding().running())
        llm = await stack.enter_async_context(FakeLlm(script=story).running())
        gateways = [GatewayProcess(tmp_path / f"gateway-{name}.log", **_settings(embedding, llm)) for name in "ab"]
        for gateway in gateways:
            stack.push_async_callback(gateway.kill)
            await gateway.start()
        envoy = await stack.enter_async_context(running(tmp_path, gateways))
        load = SteadyLoad(envoy.url, envoy.grpc_address)
        async with load.running():
            await _until_answered(load, envoy, gateways[0])
            for gateway in gateways:
                with story.going_on():
                    gateway.terminate()
                    await gateway.until_said("draining: finishing calls in flight")
                    in_flight = [upstream.active for upstream in await envoy.upstreams(gateway)]
                assert sum(in_flight) > 0  # streams that outlive the propagation time
                assert await gateway.ended() == 0
                await gateway.start()
                await until_serving(envoy, gateway)
                await _until_answered(load, envoy, gateway)
        assert not load.failures
        for gateway in gateways:
            assert "Traceback" not in gateway.log.read_text()


async def _until_answered(load: SteadyLoad, envoy: Envoy, gateway: GatewayProcess) -> None:
    """Wait until callers of every kind have been answered anew, and the gateway has served on both its ports."""
    answers = load.answers.copy()
    totals = [upstream.total for upstream in await envoy.upstreams(gateway)]

    async def answered() -> bool:
        now = [upstream.total for upstream in await envoy.upstreams(gateway)]
        return load.answered_since(answers) and all(more > total for more, total in zip(now, totals, strict=True))

    await until(answered, "every kind of caller to be answered, and the gateway to serve")


def _settings(embedding: FakeEmbedding, llm: FakeLlm) -> dict[str, str]:
    return {
        "FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES": embedding.address,
        "FLOTILLA_GATEWAY_LLM_ADDRESSES": llm.address,
        "FLOTILLA_GATEWAY_VISION_ADDRESSES": "",
        "FLOTILLA_GATEWAY_ASR_ADDRESSES": "",
    }
