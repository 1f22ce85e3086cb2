"""A Triton that dies or hangs while it loads, here played by scripts."""

import asyncio
import sys

import psutil
import pytest

from services.common import triton_process
from services.common.server import StartupError
from services.common.triton_process import Binary, TritonProcess
from tests.waiting import until

DYING = "#!/bin/sh\nsleep 600 &\necho $! > {pid}\nexit 3\n"
FAKE = """#!{python}
import concurrent.futures, pathlib, sys, time
import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

starts = pathlib.Path({starts!r})
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (count + 1))
if count == 1:
    time.sleep(600)

class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=True)

server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), server)
port = next(word.partition("=")[2] for word in sys.argv if word.startswith("--grpc-port="))
server.add_insecure_port("127.0.0.1:" + port)
server.start()
server.wait_for_termination()
"""


async def test_a_server_that_dies_before_it_is_ready_takes_its_children_along(tmp_path, monkeypatch):
    program, noted = tmp_path / "tritonserver", tmp_path / "pid"
    program.write_text(DYING.format(pid=noted))
    program.chmod(0o755)
    monkeypatch.setattr(triton_process, "find_binary", lambda _work: Binary(program, tmp_path, ""))

    async def unused(*_):
        """It never comes up."""

    with pytest.raises(StartupError, match="exited with 3"):
        async with TritonProcess(tmp_path, tmp_path, unused, unused).running():
            pass
    child = int(noted.read_text())

    def gone():
        return not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

    await until(gone, "the child to be gone")


async def test_a_restart_that_hangs_is_given_up_and_made_again(tmp_path, monkeypatch):
    program, starts = tmp_path / "tritonserver", tmp_path / "starts"
    program.write_text(FAKE.format(python=sys.executable, starts=str(starts)))
    program.chmod(0o755)
    monkeypatch.setattr(triton_process, "find_binary", lambda _work: Binary(program, tmp_path, ""))
    monkeypatch.setattr(triton_process, "RESTART_SECONDS", 1.0)
    monkeypatch.setattr(triton_process, "RESTART_FACTOR", 1.0)
    up, why = asyncio.Event(), asyncio.Queue()

    async def on_up():
        up.set()

    process = TritonProcess(tmp_path, tmp_path, why.put, on_up)
    async with process.running():
        process.restart("it hangs")
        await up.wait()
        assert len(starts.read_text()) == process.restarts + 1 >= 3  # more on a machine with too much to do
        assert await why.get() == "it hangs"
