"""A steady load from outside on each modality, and what became of every request."""

import asyncio
import io
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.common.settings import REPOSITORY_ROOT

SPEECH = REPOSITORY_ROOT / "tests" / "data" / "speech" / "jfk.flac"
NO_ANSWER = 0
REQUEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: HTTP status (0: no answer), the type of the error, when it was sent."""

    modality: str
    status: int
    error_type: str
    sent: float


@dataclass(slots=True)
class Load:
    """Workers that send requests one after the other until they are told to stop. Each has connections of its own."""

    url: str
    modalities: Sequence[str]
    workers: int = 2
    outcomes: list[Outcome] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> "Load":
        """Start the workers."""
        limits = httpx.Limits(max_keepalive_connections=0)
        timeout = httpx.Timeout(REQUEST_SECONDS)
        client = httpx.AsyncClient(base_url=self.url, timeout=timeout, limits=limits, trust_env=False)
        await self._stack.enter_async_context(client)
        for modality in self.modalities:
            request = REQUESTS[modality]()
            self._tasks += [asyncio.create_task(self._work(client, modality, request)) for _ in range(self.workers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let every worker finish the request it waits for."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._stack.aclose()

    async def answered(self, modality: str, since: float) -> None:
        """Wait until a request of the modality that was sent after `since` (monotonic) has got its answer."""
        while not any(  # noqa: ASYNC110 - several wait for different things
            one.modality == modality and one.status == 200 and one.sent > since for one in self.outcomes
        ):
            await asyncio.sleep(0.1)

    def count(self, modality: str) -> Counter[str]:
        """Return how often each end came about, such as `200` or `503 service_unavailable_error`."""
        ends = (
            f"{one.status or 'no answer'} {one.error_type}".strip() for one in self.outcomes if one.modality == modality
        )
        return Counter(ends)

    async def _work(self, client: httpx.AsyncClient, modality: str, request: dict[str, Any]) -> None:
        while not self._stop.is_set():
            sent = time.monotonic()
            try:
                answer = await client.request(**request)
                status, error = answer.status_code, _error_type(answer)
            except httpx.HTTPError as fault:
                status, error = NO_ANSWER, type(fault).__name__
            self.outcomes.append(Outcome(modality, status, error, sent))
            if status != 200:
                await asyncio.sleep(0.05)  # a refused caller that asks at once would keep the CPUs from the others


def _error_type(answer: httpx.Response) -> str:
    if answer.status_code == 200:
        return ""
    try:
        return str(answer.json()["error"]["type"])
    except (ValueError, KeyError, TypeError):
        return "untyped"


def _embedding() -> dict[str, Any]:
    return _post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": ["A fleet of small ships"]})


def _llm() -> dict[str, Any]:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return _post("/v1/chat/completions", json={"model": "smollm2-135m-instruct", "max_tokens": 8, "messages": messages})


def _asr() -> dict[str, Any]:
    files = {"file": ("speech.flac", SPEECH.read_bytes())}
    return _post("/v1/audio/transcriptions", data={"model": "whisper-tiny.en"}, files=files)


def _vision() -> dict[str, Any]:
    from PIL import Image  # noqa: PLC0415 - of the vision extra; the rest needs none of it

    picture = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((320, 240)).save(picture, "JPEG")
    return _post("/v1/classify", files={"file": ("picture.jpg", picture.getvalue())})


def _post(path: str, **body: Any) -> dict[str, Any]:
    return {"method": "POST", "url": path, **body}


REQUESTS: dict[str, Callable[[], dict[str, Any]]] = {
    "llm": _llm,
    "embedding": _embedding,
    "asr": _asr,
    "vision": _vision,
}
"""One request of each modality, as arguments for an HTTP client."""
