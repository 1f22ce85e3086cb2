import socket

import pytest

from services.common import ports


def test_free_ports_are_distinct_and_can_be_listened_on():
    found = ports.free_ports(3)
    assert len(set(found)) == 3
    for port in found:
        socket.create_server(("127.0.0.1", port)).close()


def test_too_few_free_ports_is_an_error(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(ports, "_FREE", [taken.getsockname()[1]])
        with pytest.raises(OSError, match="no free port"):
            ports.free_ports(1)
