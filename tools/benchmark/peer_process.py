"""A peer's own server: started on a free port, stopped while others are measured, since idle ones can burn CPU."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from services.common.manifest import Model
from tools.cli.console import Problem
from tools.fleet.settings import child_environment

START_SECONDS, END_SECONDS = 600, 20


@dataclass(frozen=True, slots=True)
class PeerPlace:
    """What a peer is started with."""

    model: Model
    base: Path
    """Where relative folder sources of the model count from."""
    folder: Path
    """Keeps its environment and weights."""
    slots: int
    """Answers at the same time."""
    say: Callable[[str], None]


class PeerProcess:
    """A running peer. It stands still but where it is `awake`."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self._pid = url, pid

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let the peer run in the block."""
        self.resume()
        try:
            yield
        finally:
            self.suspend()

    def resume(self) -> None:
        """Let it run."""
        self._each(psutil.Process.resume)

    def suspend(self) -> None:
        """Let it stand still."""
        self._each(psutil.Process.suspend)

    @property
    def cpu_seconds(self) -> float:
        """CPU time that it has used."""
        used = (part.cpu_times() for part in self._parts())
        return float(sum(times.user + times.system for times in used))

    @property
    def megabytes(self) -> float:
        """Its resident set size."""
        return float(sum(part.memory_info().rss for part in self._parts())) / 1e6

    def _each(self, act: Callable[[psutil.Process], None]) -> None:
        for part in self._parts():
            act(part)

    def _parts(self) -> list[psutil.Process]:
        process = psutil.Process(self._pid)
        return [process, *process.children(recursive=True)]


@asynccontextmanager
async def peer_process(
    command: Sequence[str], port: int, log: Path, environment: dict[str, str] | None = None, health: str = "/health"
) -> AsyncIterator[PeerProcess]:
    """Run `command`, which serves HTTP on `port`, while the block runs; `log` gets what it writes.

    It has started when GET `health` succeeds.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env=child_environment(environment or {}), stdout=output, stderr=output
        )
    peer = PeerProcess(f"http://127.0.0.1:{port}", process.pid)
    try:
        await _wait(peer.url + health, process, log)
        peer.suspend()
        yield peer
    finally:
        if process.returncode is None:
            peer.resume()
            process.terminate()
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _wait(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(START_SECONDS * 4):
            if process.returncode is not None:
                break
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.25)
    raise Problem("a server of the benchmark has not started", f"see {log}")
