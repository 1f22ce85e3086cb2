"""The process set with fake services: real processes, real signals."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.common.ports import free_ports
from tools.fleet.fleet import Fleet
from tools.fleet.health import health_client, observe
from tools.fleet.plan import Launch
from tools.fleet.state import StateFile, alive, created

FAKE = Path(__file__).with_name("fake_service.py")


def launch(name: str, folder: Path) -> Launch:
    port = free_ports(1)[0]
    return Launch(name, (sys.executable, str(FAKE), name, str(port), str(folder)), {}, "127.0.0.1", 1, port)


async def until(condition) -> None:
    while not await condition():  # noqa: ASYNC110 -- other processes set no asyncio.Event
        await asyncio.sleep(0.02)


@pytest.fixture
def said():
    return []


@pytest.fixture
async def fleet(tmp_path, said):
    state_file = StateFile(tmp_path)
    with state_file.locked():
        fleet = Fleet(
            [launch("embedding", tmp_path), launch("gateway", tmp_path)], state_file, said.append, first_delay=0.01
        )
        yield fleet
        fleet.kill()
        await asyncio.gather(*fleet._tasks)


async def start(fleet: Fleet) -> None:
    fleet.start()
    await until_ready(fleet)
    fleet.settle()


async def until_ready(fleet: Fleet) -> None:
    async with health_client() as client:

        async def all_ready():
            return all(health.ready for health in await observe(client, fleet.state.processes))

        await until(all_ready)


async def test_the_state_file_tells_the_others(fleet, tmp_path):
    await start(fleet)
    state = StateFile(tmp_path).running()
    assert state.ready
    assert [process.name for process in state.processes] == ["embedding", "gateway"]
    assert all(alive(process.pid, process.created) for process in state.processes)


async def test_the_gateway_is_drained_before_the_services(fleet, tmp_path):
    await start(fleet)
    await fleet.stop()
    assert (tmp_path / "order").read_text().splitlines() == ["gateway stopped", "embedding stopped"]
    assert [member.exit_code for member in fleet.members] == [0, 0]


async def test_a_process_that_dies_is_started_again_and_the_others_stay(fleet, said, tmp_path):
    await start(fleet)
    embedding, gateway = fleet.members
    orphan = psutil.Process(int((tmp_path / "embedding.child").read_text()))
    first, stays = embedding.state.pid, gateway.state.pid
    os.kill(first, signal.SIGKILL)

    async def restarted():
        return embedding.state.pid not in (first, None)

    await until(restarted)
    await asyncio.to_thread(psutil.wait_procs, [orphan], timeout=10)
    assert not orphan.is_running()
    await until_ready(fleet)
    assert embedding.state.restarts == 1
    assert gateway.state.pid == stays
    assert "embedding was ended by SIGKILL" in said[0]


async def test_restarts_back_off(fleet, said, tmp_path):
    await start(fleet)
    embedding = fleet.members[0]
    (tmp_path / "embedding.broken").touch()
    os.kill(embedding.state.pid, signal.SIGKILL)

    async def tried_three_times():
        return embedding.state.restarts >= 3

    await until(tried_three_times)
    assert "exited with status 3: the model is damaged" in said[1]


async def test_a_process_that_ends_during_the_start_is_reported_with_its_last_error(fleet, tmp_path):
    (tmp_path / "embedding.broken").touch()
    fleet.start()
    problem = await fleet.failure()
    assert problem.message == "embedding exited with status 3: the model is damaged"
    assert problem.next_step == f"read {tmp_path / 'logs' / 'embedding.log'}"


async def test_kill_ends_the_children_of_a_process_too(fleet, tmp_path):
    await start(fleet)
    grandchild = psutil.Process(int((tmp_path / "embedding.child").read_text()))
    fleet.kill()
    await asyncio.gather(*fleet._tasks)
    await asyncio.to_thread(psutil.wait_procs, [grandchild], timeout=10)
    assert not alive(grandchild.pid, created(grandchild.pid))


async def test_nothing_stays_when_the_supervisor_is_killed(tmp_path):
    code = f"""
import asyncio, sys
from pathlib import Path
from tools.fleet.fleet import Fleet
from tools.fleet.plan import Launch
from tools.fleet.state import StateFile
async def main():
    folder = Path({str(tmp_path)!r})
    command = (sys.executable, {str(FAKE)!r}, "embedding", "{free_ports(1)[0]}", str(folder))
    file = StateFile(folder)
    with file.locked():
        fleet = Fleet([Launch("embedding", command, {{}}, "127.0.0.1", 1, 2)], file, print)
        fleet.start()
        await fleet.failure()
asyncio.run(main())
"""
    supervisor = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", code], cwd=Path.cwd())

    async def started():
        return (tmp_path / "embedding.child").exists() and (tmp_path / "embedding.child").read_text()

    await until(started)
    family = psutil.Process(supervisor.pid).children(recursive=True)
    assert len(family) == 2
    supervisor.kill()
    supervisor.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, family, timeout=20)
    assert left == []
    assert StateFile(tmp_path).running() is None
