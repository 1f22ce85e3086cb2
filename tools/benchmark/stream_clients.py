"""Those who ask for streams of tokens: of the engine in this process, of a Triton, over HTTP."""

import asyncio
import importlib.util
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import numpy as np
import uvloop
from numpy.typing import NDArray

from services.common.runtime_repository import read_config
from services.common.triton import TritonClient
from services.llm.model import INPUT_IDS, OPTIONS, OUTPUT_IDS, STATE
from tools.benchmark.generator import Post
from tools.benchmark.streams import Answer, Burst, Clients, Target

LOOKUP = {"num_assistant_tokens": 5, "max_ngram_size": 3}
Ask = Callable[[Any, int, Answer], Awaitable[None]]


def clients_of(target: Target) -> Clients:
    """Return the clients of a target."""
    kinds: dict[str, Callable[[Target], Clients]] = {
        "engine": EngineClients,
        "triton": TritonClients,
        "http": HttpClients,
    }
    return kinds[target.kind](target)


class EngineClients:
    """The engine alone, with the files, properties and adapter of the model in Triton, in a plain loop."""

    def __init__(self, target: Target) -> None:
        folder = Path(target.address)
        code = {name: _module(folder / "1" / f"{name}.py") for name in ("pipeline", "settings", "options")}
        parameters = read_config(folder / "config.pbtxt").parameters
        settings = code["settings"].read_settings({key: value.string_value for key, value in parameters.items()})
        self._options = code["options"].Options
        pipeline = code["pipeline"].Pipeline
        if target.lookup:
            pipeline = _looking_up(pipeline)
            settings = replace(settings, engine={**settings.engine, "prompt_lookup": True})
        self._pipeline: Any = pipeline(folder / "1", settings)

    def run(self, burst: Burst) -> list[Answer]:
        """See Clients."""
        waiting, running, answers = deque(burst.payloads), dict[int, tuple[Any, Answer]](), list[Answer]()
        options = self._options(max_new_tokens=burst.tokens, temperature=0.0, ignore_eos=True)
        while waiting or running:
            while waiting and len(running) < burst.streams:
                answers.append(Answer())
                handle = self._pipeline.add(waiting.popleft(), burst.tokens, options)
                running[len(answers)] = handle, answers[-1]
            self._pipeline.step()
            for number, (handle, answer) in list(running.items()):
                ids, _, finish = handle.read()
                if ids:
                    answer.came(len(ids))
                if finish:
                    del running[number]
        return answers


class _AsyncClients:
    """Clients on an event loop of their own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def run(self, burst: Burst) -> list[Answer]:
        """See Clients."""
        return self._runner.run(self._all(burst))

    async def _all(self, burst: Burst) -> list[Answer]:
        answers: list[Answer] = []
        payloads = iter(burst.payloads)
        await asyncio.gather(*(self._one(payloads, burst.tokens, answers) for _ in range(burst.streams)))
        return answers

    async def _one(self, payloads: Iterable[Any], tokens: int, answers: list[Answer]) -> None:
        for payload in payloads:
            answer = Answer()
            answers.append(answer)
            try:
                await self.ask(payload, tokens, answer)
            except Exception as error:  # every failure is counted and the first one shown
                answer.error = f"{type(error).__name__}: {error}"[:300]
                answer.last = time.perf_counter()

    async def ask(self, payload: Any, tokens: int, answer: Answer) -> None:
        """Fill in one answer."""
        raise NotImplementedError


class TritonClients(_AsyncClients):
    """Token ids to a Triton, streams by gRPC."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target
        self._client: TritonClient | None = None

    async def ask(self, payload: Sequence[int], tokens: int, answer: Answer) -> None:
        """See _AsyncClients."""
        self._client = self._client or TritonClient(self._target.address)
        options = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
        inputs: dict[str, NDArray[Any]] = {
            INPUT_IDS: np.array(payload, dtype=np.int32),
            OPTIONS: np.frombuffer(json.dumps(options).encode(), dtype=np.uint8),
        }
        stream = cast(Any, self._client.stream(self._target.model, inputs, [OUTPUT_IDS, STATE]))
        async with aclosing(stream) as responses:
            async for response in responses:
                if response[OUTPUT_IDS].size:
                    answer.came(response[OUTPUT_IDS].size)


class HttpClients(_AsyncClients):
    """Server-sent events over HTTP. They are read when the answer has ended, so that the client takes little time."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._url = target.address
        self._session: Any = None

    async def _all(self, burst: Burst) -> list[Answer]:
        """Answer a burst with a connection for each answer: llama.cpp's server takes no second request on one."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
            self._session = session
            return await super()._all(burst)

    async def ask(self, payload: Post, tokens: int, answer: Answer) -> None:
        """See _AsyncClients."""
        lines: list[tuple[float, bytes]] = []
        headers = {"Content-Type": payload.content_type}
        async with self._session.post(self._url + payload.path, data=payload.body, headers=headers) as response:
            if response.status != payload.status:
                raise RuntimeError(f"{response.status} {(await response.read())[:200]!r}")
            async for line in response.content:
                lines.append((time.perf_counter(), line))
        read_events(lines, answer)


def read_events(lines: Iterable[tuple[float, bytes]], answer: Answer) -> None:
    """Fill in an answer from the lines of an event stream, chat or completion, and when each came."""
    for at, line in lines:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(str(event["error"])[:200])
        for choice in event.get("choices") or ():
            if choice.get("delta", {}).get("content") or choice.get("text"):
                answer.first, answer.last = answer.first or at, at
        if event.get("usage"):
            answer.tokens = event["usage"]["completion_tokens"]


def _looking_up(pipeline: Any) -> Any:
    """Return the adapter as it is used with prompt lookup: every request has to say how."""

    class Looking(pipeline):  # type: ignore[misc]
        def _config(self, max_new_tokens: int, options: Any) -> Any:
            config = super()._config(max_new_tokens, options)
            for name, value in LOOKUP.items():
                setattr(config, name, value)
            return config

    return Looking


def _module(path: Path) -> Any:
    """Import one file of a model in Triton, whose folder is no package."""
    name = f"flotilla_engine_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: S101  # it is a Python file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
