"""The generator of streams: answers read token by token, in a process of its own that stays and reports its CPU time.

It reads pickled Bursts from standard input and writes a pickled Flow for each. Payloads are made beforehand.
"""

import asyncio
import os
import pickle
import struct
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from tools.benchmark.generator import ROOT, cpu_seconds

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Target:
    """Who answers. `kind` is engine, triton or http; `address` a model's folder, host:port or a base URL."""

    kind: str
    address: str
    model: str = ""
    """Name in Triton."""
    lookup: bool = False
    """The engine guesses by looking up what it has seen in the prompt."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Answers of so many `tokens` to `payloads` (token ids, or Posts), `streams` at a time."""

    payloads: Sequence[Any]
    streams: int
    tokens: int


@dataclass(slots=True)
class Answer:
    """When an answer was asked for, and when its first and last token came, in seconds of one clock."""

    began: float = field(default_factory=time.perf_counter)
    first: float = 0.0
    last: float = 0.0
    tokens: int = 0
    error: str = ""

    def came(self, tokens: int) -> None:
        """Take note that tokens came just now."""
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.tokens += tokens


@dataclass(frozen=True, slots=True)
class Flow:
    """What came of a burst."""

    answers: list[Answer]
    seconds: float
    generator_cores: float

    @property
    def good(self) -> list[Answer]:
        """The answers without an error."""
        return [answer for answer in self.answers if not answer.error]

    @property
    def rate(self) -> float:
        """Tokens a second, of all streams together, reading the prompts included."""
        return sum(answer.tokens for answer in self.good) / self.seconds

    @property
    def first_token(self) -> list[float]:
        """Seconds to the first token."""
        return [answer.first - answer.began for answer in self.good]

    @property
    def gaps(self) -> list[float]:
        """Mean seconds from a token to the next, for each stream."""
        return [(answer.last - answer.first) / (answer.tokens - 1) for answer in self.good if answer.tokens > 1]


class Clients(Protocol):
    """Answers bursts of one target."""

    def run(self, burst: Burst) -> list[Answer]:
        """Return the answers, when all have ended."""


class StreamGenerator:
    """The parent's end of a generator."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def send(self, burst: Burst) -> Flow:
        """Have one burst made. Raises RuntimeError when the generator is gone."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101  # they are pipes
        self._process.stdin.write(pickle.dumps(burst))
        try:
            (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
            flow: Flow = pickle.loads(await self._process.stdout.readexactly(length))  # noqa: S301  # our own child's
        except asyncio.IncompleteReadError:
            raise RuntimeError(f"the stream generator exited with {await self._process.wait()}") from None
        return flow


@asynccontextmanager
async def stream_generator(target: Target) -> AsyncIterator[StreamGenerator]:
    """Run a generator for `target` while the block runs."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", f"from {__name__} import main; main()"),
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto")])},
    )
    assert process.stdin is not None  # noqa: S101  # it is a pipe
    process.stdin.write(pickle.dumps(target))
    try:
        yield StreamGenerator(process)
    finally:
        process.stdin.close()
        await process.wait()


def flow_of(clients: Clients, burst: Burst) -> Flow:
    """Run a burst in this process."""
    began, used = time.perf_counter(), cpu_seconds()
    answers = clients.run(burst)
    seconds = max((answer.last for answer in answers), default=began) - began
    for answer in answers:
        if not answer.error and answer.tokens != burst.tokens:
            answer.error = f"{answer.tokens} tokens instead of {burst.tokens}"
    return Flow(answers, seconds, (cpu_seconds() - used) / seconds if seconds else 0.0)


def main() -> None:
    """Read the Target, then Bursts until the end; write a Flow for each."""
    from tools.benchmark.stream_clients import clients_of  # noqa: PLC0415

    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what engines print must not come between
    clients = clients_of(pickle.load(sys.stdin.buffer))  # noqa: S301  # our own parent's input
    while True:
        try:
            burst = pickle.load(sys.stdin.buffer)  # noqa: S301  # our own parent's input
        except EOFError:
            os._exit(0)  # engines are slow to tear down, and nothing is left to keep
        reply = pickle.dumps(flow_of(clients, burst))
        out.write(_LENGTH.pack(len(reply)) + reply)
        out.flush()
