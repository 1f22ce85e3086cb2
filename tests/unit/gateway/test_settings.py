import pytest

from services.common.settings import load
from services.gateway.settings import GatewaySettings


def test_defaults_are_the_ports_every_client_assumes() -> None:
    settings = GatewaySettings()
    assert (settings.host, settings.http_port, settings.grpc_port, settings.metrics_port) == (
        "127.0.0.1",
        8000,
        8001,
        8002,
    )


@pytest.mark.parametrize("value", ["localhost", ",a:1", "a:b", "a:1,", ":1"])
def test_a_bad_address_stops_start_up_and_names_the_variable(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES", value)
    with pytest.raises(SystemExit):
        load(GatewaySettings)
    assert "FLOTILLA_GATEWAY_EMBEDDING_ADDRESSES" in capsys.readouterr().err
