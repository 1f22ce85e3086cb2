"""Stands in for a service: serves health over HTTP, drains on SIGTERM. `fake_service.py <name> <port> <folder>`.

Writes `<name> stopped` to <folder>/order when it drained; ends with status 3 when <folder>/<name>.broken exists; starts
a child of its own, whose pid is in <folder>/<name>.child.
"""

import http.server
import json
import pathlib
import signal
import subprocess
import sys
import threading

name, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
if (folder / f"{name}.broken").exists():
    print(json.dumps({"level": "ERROR", "message": "the model is damaged"}))
    sys.exit(3)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        services = {"embedding": {"ready": True, "message": ""}} if name == "gateway" else {}
        body = {"object": "health.response", "message": "", "ready": True, "phases": [], "services": services}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", port), Handler)
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
(folder / f"{name}.child").write_text(str(child.pid))
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
child.stdin.close()
child.wait()
with (folder / "order").open("a") as order:
    order.write(f"{name} stopped\n")
