import os
import socket

import pytest

from services.common.ports import free_ports
from tools.cli.console import Problem
from tools.fleet.plan import Launch
from tools.fleet.ports import check_ports


def launch(name: str, http_port: int, grpc_port: int, host: str = "127.0.0.1") -> Launch:
    return Launch(name, (), {}, host, grpc_port, http_port)


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_free_ports_pass():
    check_ports([launch("embedding", *free_ports(2))])


def test_a_port_in_use_names_its_holder_and_what_moves_it(listener):
    with pytest.raises(Problem, match=rf"port {listener} \(embedding\) is in use by .*pid {os.getpid()}") as problem:
        check_ports([launch("embedding", listener, free_ports(1)[0])])
    assert "FLOTILLA_EMBEDDING_HTTP_PORT" in problem.value.next_step


def test_the_same_port_twice_is_refused():
    port = free_ports(1)[0]
    with pytest.raises(Problem, match="FLOTILLA_GATEWAY_GRPC_PORT and FLOTILLA_EMBEDDING_HTTP_PORT are both"):
        check_ports([launch("embedding", port, free_ports(1)[0]), launch("gateway", free_ports(1)[0], port)])


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(Problem, match=r"cannot listen on 192\.0\.2\.1"):
        check_ports([launch("gateway", *free_ports(2), host="192.0.2.1")])
