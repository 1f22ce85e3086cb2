"""No value that a raw client sends harms the recognisers: it is refused by name, and the next call works."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.common.errors import Kind, ServiceError
from tests.integration.asr.engine_triton import BASE, TINY, Engine, running_engines

NOTHING = -1


@pytest.fixture(scope="module")
async def engines(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Engine]]:
    async with running_engines(tmp_path_factory.mktemp("engines")) as running:
        yield running


@pytest.fixture(scope="module")
def base(engines: dict[str, Engine]) -> Engine:
    return engines[BASE]


def filled(value: float, frames: int = 200) -> np.ndarray[Any, Any]:
    return np.full((1, 80, frames), value, dtype=np.float32)


def ids(*values: int) -> np.ndarray[Any, Any]:
    return np.array([values], dtype=np.int32)


START, ENGLISH, TRANSCRIBE = 50258, 50259, 50359
BAD = [
    ("mel", filled(0, 0)),
    ("mel", filled(0, 3001)),
    ("mel", filled(np.nan)),
    ("mel", filled(np.inf)),
    ("mel", filled(-np.inf)),
    ("mel", filled(1e30)),
    ("frames", ids(0)),
    ("frames", ids(-5)),
    ("frames", ids(201)),
    ("frames", ids(2**31 - 1)),
    ("prompt", ids(START, ENGLISH, 51865)),
    ("prompt", ids(START, -2)),
    ("prompt", ids(START, NOTHING, ENGLISH)),
    ("prompt", ids(2**31 - 1)),
    ("prompt", ids(-(2**31))),
    ("prompt", ids()),
    ("prompt", ids(NOTHING)),
    ("prompt", ids(ENGLISH, TRANSCRIBE)),
    ("prompt", ids(START, ENGLISH, TRANSCRIBE, 11)),
    ("prompt", ids(START, START)),
    ("prompt", ids(START, ENGLISH, 50364)),
    ("max_new_tokens", np.hstack([ids(*[11] * 440), ids(START)])),  # as prompt: 441 and 8 new ones
    ("beam_size", ids(0)),
    ("beam_size", ids(11)),
    ("beam_size", ids(-1)),
    ("alternatives", ids(0)),
    ("alternatives", ids(6)),
    ("temperature", np.array([[-0.1]], dtype=np.float32)),
    ("temperature", np.array([[1.1]], dtype=np.float32)),
    ("temperature", np.array([[np.nan]], dtype=np.float32)),
    ("temperature", np.array([[np.inf]], dtype=np.float32)),
    ("max_new_tokens", ids(0)),
    ("max_new_tokens", ids(-1)),
    ("max_new_tokens", ids(446)),
    ("max_new_tokens", ids(2**31 - 1)),
    ("word_times", np.array([[2]], dtype=np.uint8)),
    ("detect_language", np.array([[255]], dtype=np.uint8)),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_bad_value_is_refused_by_name(base: Engine, field: str, value: Any) -> None:
    tensor = "prompt" if value.shape[-1] > 400 and field == "max_new_tokens" else field
    with pytest.raises(ServiceError, match=f"{field}: ") as refusal:
        await base.raw({**base.tensors(), tensor: value})
    assert refusal.value.kind is Kind.INVALID_ARGUMENT
    await base.raw(base.tensors())


async def test_word_times_need_room_for_two_more_tokens(base: Engine) -> None:
    tensors = base.tensors() | {"prompt": ids(START), "word_times": np.ones((1, 1), dtype=np.uint8)}
    with pytest.raises(ServiceError, match="max_new_tokens: 446 are too many for word_times; at most 445"):
        await base.raw(tensors | {"max_new_tokens": ids(446)})
    await base.raw(tensors | {"max_new_tokens": ids(445)})


async def test_a_bad_row_refuses_its_own_request_only(base: Engine) -> None:
    """Triton merges these into one batch when they come at once."""
    good, bad = base.tensors(), base.tensors() | {"beam_size": ids(99)}
    results = await asyncio.gather(*(base.raw(dict(one)) for one in (good, bad) * 6), return_exceptions=True)
    assert all(isinstance(result, dict) for result in results[::2])
    assert all(isinstance(result, ServiceError) for result in results[1::2])


async def test_no_language_needs_no_prompt(engines: dict[str, Engine]) -> None:
    for engine, languages in ((engines[BASE], 99), (engines[TINY], 0)):
        tensors = engine.tensors() | {"prompt": ids(NOTHING), "detect_language": np.ones((1, 1), dtype=np.uint8)}
        assert (await engine.raw(tensors))["languages"].shape == (1, languages)


@pytest.mark.parametrize("model", [BASE, TINY])
async def test_odd_requests_that_are_allowed(engines: dict[str, Engine], model: str) -> None:
    """Prompts nobody writes, sounds that are none: answered within what was asked for, whatever the answer is."""
    engine = engines[model]
    start, size = engine.prompt()[0], 51865 if model == BASE else 51864
    random = np.random.default_rng(7)
    for round_number in range(25):
        rows, frames = int(random.integers(1, 5)), int(random.integers(1, 400))
        prompt = random.integers(0, size, (rows, int(random.integers(1, 60)))).astype(np.int32)
        first = random.integers(0, prompt.shape[1])
        prompt[:, first] = start
        prompt[:, first + 1 :] = random.integers(start + 1, start + 106, prompt[:, first + 1 :].shape)
        prompt[:, :first][prompt[:, :first] == start] = 0
        mel = random.normal(0, random.choice([0.1, 1, 20]), (rows, 80, frames)).clip(-100, 100).astype(np.float32)
        new = random.integers(1, 40, (rows, 1)).astype(np.int32)
        tensors = engine.tensors(rows, frames) | {
            "mel": mel,
            "prompt": prompt,
            "frames": random.integers(1, frames + 1, (rows, 1)).astype(np.int32),
            "beam_size": random.integers(1, 11, (rows, 1)).astype(np.int32),
            "alternatives": random.integers(1, 6, (rows, 1)).astype(np.int32),
            "temperature": random.choice([0, 1e-20, 0.3, 1], (rows, 1)).astype(np.float32),
            "max_new_tokens": new,
            "word_times": random.integers(0, 2, (rows, 1)).astype(np.uint8),
            "detect_language": random.integers(0, 2, (rows, 1)).astype(np.uint8),
        }
        outputs = await engine.raw(tensors)
        for row in range(rows):
            found = (outputs["tokens"][row] >= 0).sum(axis=-1)
            assert (found <= new[row, 0]).all(), (round_number, row)
        assert np.isfinite(outputs["scores"]).all() and np.isfinite(outputs["token_times"]).all()


async def test_who_leaves_is_not_read(base: Engine) -> None:
    slow = base.tensors(rows=8, frames=3000) | {
        name: np.full((8, 1), value, dtype=np.int32)
        for name, value in (("beam_size", 10), ("max_new_tokens", 400), ("alternatives", 5))
    }
    with pytest.raises(ServiceError) as late:
        await base.client.infer(base.name, slow, ["tokens"], timeout=0.5)
    assert late.value.kind is Kind.DEADLINE_EXCEEDED
    await base.raw(base.tensors())
