import pytest

from services.common.ports import SERVICES
from tools.cli.console import Problem
from tools.fleet.plan import choose, plan, reachable
from tools.fleet.settings import FleetSettings, port_settings


@pytest.fixture
def settings(tmp_path):
    return FleetSettings(state_dir=tmp_path, model_store=tmp_path / "models", cpu_threads=4)


def test_the_gateway_is_always_chosen_and_last():
    assert [service.name for service in choose(["embedding"])] == ["embedding", "gateway"]
    assert [service.name for service in choose(["gateway"])] == ["gateway"]
    assert len(choose([])) == len(SERVICES)


def test_an_unknown_service_is_refused_with_the_known_ones():
    with pytest.raises(Problem, match="no service embeddings") as problem:
        choose(["embeddings"])
    assert "llm, embedding, asr, vision, gateway" in problem.value.next_step


def test_port_moves_the_three_ports_of_the_gateway_only(settings):
    embedding, gateway = plan(choose(["embedding"]), settings, host="0.0.0.0", port=9000)
    assert (gateway.http_port, gateway.grpc_port, gateway.metrics_port) == (9000, 9001, 9002)
    assert gateway.environment["FLOTILLA_GATEWAY_HOST"] == "0.0.0.0"
    assert gateway.environment["FLOTILLA_GATEWAY_METRICS_PORT"] == "9002"
    assert (embedding.host, embedding.http_port, embedding.grpc_port) == ("127.0.0.1", 9062, 50062)


def test_the_gateway_is_told_where_the_services_are(settings, monkeypatch):
    monkeypatch.setenv("FLOTILLA_EMBEDDING_GRPC_PORT", "51000")
    embedding, gateway = plan(choose(["embedding"]), settings, None, None)
    assert embedding.grpc_port == 51000
    assert gateway.environment["FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES"] == "127.0.0.1:51000"
    assert gateway.environment["FLOTILLA_GATEWAY_METRICS_ADDRESSES"] == f"embedding=127.0.0.1:{embedding.http_port}"


def test_a_service_that_is_not_started_keeps_the_address_of_the_environment(settings, monkeypatch):
    monkeypatch.setenv("FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES", "elsewhere:50062")
    (gateway,) = plan(choose(["gateway"]), settings, None, None)
    assert "FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES" not in gateway.environment


def test_a_service_that_is_not_started_is_not_part_of_the_fleet(settings, monkeypatch):
    monkeypatch.delenv("FLOTILLA_GATEWAY_VISION_ADDRESSES", raising=False)
    _, gateway = plan(choose(["embedding"]), settings, None, None)
    assert gateway.environment["FLOTILLA_GATEWAY_VISION_ADDRESSES"] == ""


def test_processes_share_the_settings_of_the_machine(settings):
    embedding, _ = plan(choose(["embedding"]), settings, None, None)
    assert embedding.environment["FLOTILLA_CPU_THREADS"] == "4"
    assert embedding.environment["FLOTILLA_MODEL_STORE"] == str(settings.model_store)
    assert embedding.environment["FLOTILLA_DRAIN_PROPAGATION_SECONDS"] == "0"
    assert embedding.command[1:] == ("-P", "-m", "services.embedding")


def test_a_port_beyond_the_range_is_refused(settings):
    with pytest.raises(Problem, match="65535"):
        plan(choose([]), settings, None, 65535)


def test_a_bad_variable_is_named(monkeypatch):
    monkeypatch.setenv("FLOTILLA_EMBEDDING_HTTP_PORT", "http")
    with pytest.raises(Problem, match="FLOTILLA_EMBEDDING_HTTP_PORT=http"):
        port_settings(next(service for service in SERVICES if service.name == "embedding"))


@pytest.mark.parametrize(("host", "expected"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("192.0.2.1", "192.0.2.1")])
def test_a_wildcard_address_is_reached_on_loopback(host, expected):
    assert reachable(host) == expected
