"""The healthcheck of the images: its exit status and what it says."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.common.ports import free_ports

SCRIPT = Path(__file__).resolve().parents[4] / "containers" / "runtime" / "healthcheck.py"


class Ready(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(json.dumps({"message": "load running"}).encode())

    def log_message(self, *_):
        pass


def asked(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-S", SCRIPT, str(port)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_it_says_what_the_health_port_says(status, code):
    handler = type("Handler", (Ready,), {"status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        done = asked(server.server_address[1])
        server.shutdown()
        thread.join()
    assert (done.returncode, done.stdout.strip()) == (code, "load running")


def test_nobody_there_is_one_line():
    done = asked(free_ports(1)[0])
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1 and "does not answer" in done.stdout
    assert done.stderr == ""
