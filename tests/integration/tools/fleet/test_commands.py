"""The commands as a person starts them, where nothing has to be prepared."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from services.common.ports import GATEWAY, SERVICES, free_ports

ROOT = Path(__file__).parents[4]


def flotilla(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "tools.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "COLUMNS": "200", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_status_of_nothing(tmp_path):
    answer = flotilla("status", "--state-dir", str(tmp_path))
    assert (answer.returncode, answer.stderr) == (1, "")
    assert "Nothing is running" in answer.stdout


def test_status_as_json(tmp_path):
    answer = flotilla("status", "--json", "--state-dir", str(tmp_path))
    assert json.loads(answer.stdout) == {"running": False, "ready": False, "services": []}


def test_down_of_nothing_forgets_a_stale_fleet(tmp_path):
    (tmp_path / "fleet.json").write_text('{"pid": 1, "created": 1.0}')
    answer = flotilla("down", "--state-dir", str(tmp_path))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Nothing is running" in answer.stdout
    assert not (tmp_path / "fleet.json").exists()


def test_up_on_a_port_in_use_is_one_line_and_a_next_step(tmp_path):
    names = [service.variable(port) for service in SERVICES for port in ("http_port", "grpc_port")]
    names.append(GATEWAY.variable("metrics_port"))
    free = {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        answer = flotilla("up", "--state-dir", str(tmp_path), **free | {"FLOTILLA_EMBEDDING_HTTP_PORT": port})
    assert answer.returncode == 1
    assert answer.stderr == ""
    error, next_step = answer.stdout.splitlines()
    assert error.startswith(f"error: port {port} (embedding) is in use by")
    assert "FLOTILLA_EMBEDDING_HTTP_PORT" in next_step


def test_up_where_nothing_can_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    answer = flotilla("up", "--state-dir", str(tmp_path / "file" / "state"))
    assert answer.returncode == 1
    assert "Traceback" not in answer.stdout + answer.stderr
    assert answer.stdout.startswith("error: ")


def test_a_bad_variable_is_named():
    answer = flotilla("status", FLOTILLA_CPU_THREADS="many")
    assert answer.returncode == 1
    assert "FLOTILLA_CPU_THREADS=many" in answer.stdout
