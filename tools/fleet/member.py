"""One supervised process: started, watched, restarted with back-off, and stopped."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from services.common.tether import tethered
from tools.fleet.logs import last_error, log_path, rotate
from tools.fleet.plan import Launch
from tools.fleet.settings import child_environment
from tools.fleet.state import ProcessState, created

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A process that ran this long starts again at the first delay."""


class Member:
    """A process of the fleet. `state` is what others see of it; `on_change` is called after each change of it."""

    def __init__(
        self,
        launch: Launch,
        logs: Path,
        on_change: Callable[[], None],
        say: Callable[[str], None],
        first_delay: float = FIRST_DELAY_SECONDS,
    ) -> None:
        self.launch = launch
        self.log = log_path(logs, launch.name)
        self.state = ProcessState(
            launch.name, launch.host, launch.grpc_port, launch.http_port, metrics_port=launch.metrics_port
        )
        self.exit_code: int | None = None
        """How the process ended when it may not be restarted (during the start of the fleet)."""
        self.restarting = False
        self.killed = False
        self._on_change = on_change
        self._say = say
        self._first_delay = first_delay
        self._process: asyncio.subprocess.Process | None = None
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Keep the process running until `stop`; while `restarting` is off, return when it ends."""
        rotate(self.log)
        delay = self._first_delay
        while not self._stop.is_set():
            begin = asyncio.get_running_loop().time()
            try:
                code: int | None = await self._run_once()
            except OSError:  # no memory or no disk for a new process; later there may be
                if not self.restarting:
                    raise
                code = None
            if self._stop.is_set() or not self.restarting:
                self.exit_code = code
                return
            if asyncio.get_running_loop().time() - begin > STEADY_SECONDS:
                delay = self._first_delay
            self._say(f"{self.launch.name} {self.ending(code)}; starting it again in {delay:.0f} s (log: {self.log})")
            self.state.restarts += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    def stop(self) -> None:
        """Ask the process to drain (SIGTERM); `run` returns when it has ended."""
        self._stop.set()
        self.state.stopping = True
        self._on_change()
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and everything it started, at once."""
        self._stop.set()
        if self._process is None or self._process.returncode is not None:
            return
        self.killed = True
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for descendant in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error):
                    descendant.kill()

    def ending(self, code: int | None) -> str:
        """Say in words how the process ended and what its log says about it."""
        if code is None:
            return "could not be started"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
        why = last_error(self.log)
        return f"{how}: {why}" if why else how

    async def _run_once(self) -> int:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(signal.SIGTERM, *self.launch.command),  # so that a service still drains
                env=child_environment(self.launch.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C in the terminal is for the supervisor, which stops them in order
            )
        self.state.pid, self.state.created = self._process.pid, created(self._process.pid)
        self._on_change()
        if self._stop.is_set():  # while it was being started
            self._process.send_signal(signal.SIGTERM)
        try:
            return await self._process.wait()
        finally:
            with suppress(ProcessLookupError):  # what a process that crashed has left of its group
                os.killpg(self._process.pid, signal.SIGKILL)
            self.state.pid = self.state.created = None
            self._on_change()
