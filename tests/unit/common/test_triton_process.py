"""A Triton that dies while it loads leaves nothing behind: here a program that starts a child and gives up."""

import psutil
import pytest

from services.common import triton_process
from services.common.server import StartupError
from services.common.triton_process import Binary, TritonProcess
from tests.waiting import until

DYING = "#!/bin/sh\nsleep 600 &\necho $! > {pid}\nexit 3\n"


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
