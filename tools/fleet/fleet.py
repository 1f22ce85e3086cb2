"""The process set of one machine: started together, watched, and stopped in the order that loses no request."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from services.common.ports import GATEWAY
from tools.cli.console import Problem
from tools.fleet.member import FIRST_DELAY_SECONDS, Member
from tools.fleet.plan import Launch
from tools.fleet.state import FleetState, StateFile, created

DRAIN_MARGIN_SECONDS = 20.0
"""Beyond its own grace period, what a process gets to stop Triton and flush before it is ended."""


class Fleet:
    """The members, and the state file that tells the other commands about them."""

    def __init__(
        self,
        launches: Sequence[Launch],
        state_file: StateFile,
        say: Callable[[str], None],
        drain_seconds: float = 30.0,
        first_delay: float = FIRST_DELAY_SECONDS,
    ) -> None:
        self._state_file = state_file
        self._patience = drain_seconds + DRAIN_MARGIN_SECONDS
        self._tasks: list[asyncio.Task[None]] = []
        self.members = [Member(launch, state_file.logs, self._write, say, first_delay) for launch in launches]
        self.state = FleetState(
            os.getpid(), created(os.getpid()) or 0.0, processes=[member.state for member in self.members]
        )

    def start(self) -> None:
        """Start every process; from now on `failure` tells of the first that ended."""
        self._state_file.write(self.state)
        self._tasks = [asyncio.create_task(member.run()) for member in self.members]

    async def failure(self) -> Problem:
        """Wait until a process ends although nobody stopped it, and return what there is to say about it."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for member, task in zip(self.members, self._tasks, strict=True):
            if task.done():
                task.result()
                return Problem(f"{member.launch.name} {member.ending(member.exit_code)}", f"read {member.log}")
        raise AssertionError("a task was done")

    def settle(self) -> None:
        """Say that the start succeeded: from now on a process that ends is started again."""
        self.state.ready = True
        for member in self.members:
            member.restarting = True
        self._write()

    async def stop(self) -> None:
        """Drain the gateway, so that nothing new arrives, then the services behind it, all at once."""
        gateways = [pair for pair in self._pairs() if pair[0].launch.name == GATEWAY.name]
        await self._stop(gateways)
        await self._stop([pair for pair in self._pairs() if pair not in gateways])

    def kill(self) -> None:
        """End everything at once."""
        for member in self.members:
            member.kill()

    def _pairs(self) -> list[tuple[Member, asyncio.Task[None]]]:
        return list(zip(self.members, self._tasks, strict=True))

    async def _stop(self, pairs: Sequence[tuple[Member, asyncio.Task[None]]]) -> None:
        for member, _ in pairs:
            member.stop()
        if pairs:
            _, late = await asyncio.wait([task for _, task in pairs], timeout=self._patience)
            for member, task in pairs:
                if task in late:
                    member.kill()
            await asyncio.gather(*(task for _, task in pairs))

    def _write(self) -> None:
        with suppress(OSError):  # a disk that is full by now must not end a fleet that works
            self._state_file.write(self.state)
