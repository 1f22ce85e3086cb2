"""`flotilla up` does not open the gateway to others without keys."""

import pytest

from tools.cli.console import Problem
from tools.cli.up import _refuse_if_open
from tools.fleet.plan import Launch


def gateway(host: str) -> Launch:
    return Launch(name="gateway", command=(), environment={}, host=host, grpc_port=1, http_port=2, metrics_port=3)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_keys(host: str) -> None:
    _refuse_if_open(gateway(host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_other_addresses_do(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Problem, match="no API key"):
        _refuse_if_open(gateway(host))
    monkeypatch.setenv("FLOTILLA_GATEWAY_ALLOW_KEYLESS", "true")
    _refuse_if_open(gateway(host))
    monkeypatch.delenv("FLOTILLA_GATEWAY_ALLOW_KEYLESS")
    monkeypatch.setenv("FLOTILLA_GATEWAY_KEYS_FILE", "keys.json")
    _refuse_if_open(gateway(host))
