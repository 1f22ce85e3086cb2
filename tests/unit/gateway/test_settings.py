import pytest

from services.common.settings import load
from services.gateway.scrape import places
from services.gateway.settings import GatewaySettings


def test_defaults_are_the_ports_every_client_assumes() -> None:
    settings = GatewaySettings()
    assert (settings.host, settings.http_port, settings.grpc_port, settings.metrics_port) == (
        "127.0.0.1",
        8000,
        8001,
        8002,
    )


@pytest.mark.parametrize("value", ["embedding", "embedding=a", "nope=a:1", "metrics=a:1", "embedding=a:1,", "=a:1"])
def test_a_bad_address_of_metrics_stops_start_up(value: str) -> None:
    with pytest.raises(ValueError, match="is not service=host:port"):
        GatewaySettings(metrics_addresses=value)


def test_metrics_are_next_to_the_grpc_ports_unless_the_settings_say_where() -> None:
    settings = GatewaySettings(
        llm_addresses="",
        embedding_addresses="a:50062,b:50062,[::1]:50062",
        asr_addresses="a:1234",
        vision_addresses="a:50064",
        metrics_addresses="vision=b:1,vision=c:2",
    )
    assert places(settings) == {
        "embedding": ["a:9062", "b:9062", "[::1]:9062"],
        "asr": [],
        "vision": ["b:1", "c:2"],
    }


@pytest.mark.parametrize("value", ["localhost", ",a:1", "a:b", "a:1,", ":1"])
def test_a_bad_address_stops_start_up_and_names_the_variable(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES", value)
    with pytest.raises(SystemExit):
        load(GatewaySettings)
    assert "FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES" in capsys.readouterr().err


def test_an_address_for_an_answer_about_keys_says_what_there_is_to_decide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOTILLA_GATEWAY_ALLOW_KEYLESS", "0.0.0.0")
    with pytest.raises(SystemExit):
        load(GatewaySettings)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("FLOTILLA_GATEWAY_ALLOW_KEYLESS='0.0.0.0': ")
    assert "=true, or =false with FLOTILLA_GATEWAY_KEYS_FILE" in line
