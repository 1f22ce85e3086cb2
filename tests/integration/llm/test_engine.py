"""The engine, the scorer and the grammar check in a real Triton."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from services.common.errors import Kind, ServiceError
from services.llm.model import LOGPROBS, OUTPUT_IDS, TOP_IDS, TOP_LOGPROBS
from tests.integration.llm.engine_triton import Engine, default_model, running_engine, stored_files
from tests.waiting import until
from tools.export.llm.selftest import SelfTest, read_selftest

ENDED, LIMITED = 1, 2
END_OF_TURN = 2
LONG = {"max_new_tokens": 2000, "ignore_eos": True}


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with running_engine(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture(scope="module")
def selftest() -> SelfTest:
    return read_selftest(stored_files(default_model())["selftest.json"])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(stored_files(default_model())["tokenizer.json"]))


@pytest.fixture
def chat(tokenizer: Tokenizer) -> Any:
    def prompt(text: str) -> list[int]:
        turns = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        return list(tokenizer.encode(turns, add_special_tokens=False).ids)

    return prompt


async def test_the_self_test_is_reproduced(engine: Engine, selftest: SelfTest) -> None:
    for case in selftest.cases:
        count = len(case.output_ids)
        answer = await engine.answer(
            case.prompt_ids, temperature=0, max_new_tokens=count, ignore_eos=True, logprobs=True
        )
        assert (answer.ids, answer.finish) == (case.output_ids, LIMITED)
        assert answer.logprobs == pytest.approx(case.logprobs, abs=selftest.tolerance)


async def test_an_answer_ends_by_itself_without_its_last_token(engine: Engine, chat: Any) -> None:
    answer = await engine.answer(chat("Name three colours."), temperature=0, max_new_tokens=200)
    assert answer.finish == ENDED and answer.ids and END_OF_TURN not in answer.ids
    assert answer.logprobs == [0.0] * len(answer.ids)


async def test_among_sixteen_every_answer_is_the_one_alone(engine: Engine, chat: Any) -> None:
    prompts = [chat(f"Tell me a fact about the number {number}.") for number in range(16)]
    options = {"temperature": 0, "max_new_tokens": 32, "logprobs": True}
    alone = [await engine.answer(prompt, **options) for prompt in prompts]
    together = await asyncio.gather(*(engine.answer(prompt, **options) for prompt in prompts))
    for one, other in zip(alone, together, strict=True):
        assert same_or_close(one.ids, other.ids, one.logprobs, other.logprobs)
    assert sum(one.ids == other.ids for one, other in zip(alone, together, strict=True)) >= 14


def same_or_close(first: list[int], second: list[int], *logprobs: list[float]) -> bool:
    """Whether two greedy answers are equal, or part where two tokens were within 0.05 of each other."""
    parting = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if parting is None:
        return len(first) == len(second)
    return abs(logprobs[0][parting] - logprobs[1][parting]) <= 0.05


async def test_the_same_seed_gives_the_same_text(engine: Engine, chat: Any) -> None:
    options = {"temperature": 1.0, "max_new_tokens": 16}
    first, again, other, free, freer = [
        (await engine.answer(chat("Tell me a story."), **options, **seed)).ids
        for seed in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {}, {})
    ]
    assert first == again != other and free != freer


async def test_a_repeated_prompt_comes_from_the_cache(engine: Engine, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("The history of this lighthouse is long and full of storms. " * 12).ids
    before = (await engine.statistics())[4]
    first, second = [await engine.answer(ids, temperature=0, max_new_tokens=4) for _ in range(2)]
    assert first.cached == 0 and len(ids) - 32 <= second.cached < len(ids)
    assert second.ids == first.ids
    assert (await engine.statistics())[4] - before == second.cached


async def test_a_closed_stream_leaves_the_engine(engine: Engine, chat: Any) -> None:
    cancelled = (await engine.statistics())[6]
    stream = engine.responses(chat("Tell me a long story."), LONG)
    await anext(stream)
    await stream.aclose()
    await engine.rest()
    assert (await engine.statistics())[6] == cancelled + 1


async def test_cancelled_tasks_leave_it_and_the_others_go_on(engine: Engine, chat: Any) -> None:
    stays = asyncio.create_task(engine.answer(chat("Count to ten."), temperature=0, max_new_tokens=40))
    gone = [asyncio.create_task(engine.answer(chat(f"Story {number}"), **LONG)) for number in range(40)]
    await engine.running(30)
    for task in gone:
        task.cancel()
    assert (await stays).ids
    await asyncio.wait(gone)
    await engine.rest()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"temperature": -1}, "options.temperature"),
        ({"top_p": 0}, "options.top_p"),
        ({"seed": -1}, "options.seed"),
        ({"max_new_tokens": 0}, "options.max_new_tokens"),
        ({"logit_bias": {}}, "logit_bias"),
        (b"\xff\xfe", "options"),
        (b"{", "options"),
    ],
)
async def test_a_bad_option_is_refused_by_name(engine: Engine, options: Any, name: str) -> None:
    with pytest.raises(ServiceError, match=name) as refusal:
        await anext(engine.responses([1, 2, 3], options))
    assert refusal.value.kind is Kind.INVALID_ARGUMENT


@pytest.mark.parametrize("ids", [[-1], [49152], [5] * 8192, [5] * 20000])
async def test_a_bad_prompt_is_refused(engine: Engine, ids: list[int]) -> None:
    with pytest.raises(ServiceError, match="input_ids") as refusal:
        await engine.answer(ids)
    assert refusal.value.kind is Kind.INVALID_ARGUMENT


async def test_a_bad_request_does_not_disturb_its_neighbours(engine: Engine, chat: Any) -> None:
    options = {"temperature": 0, "max_new_tokens": 40, "ignore_eos": True}
    expected = await engine.answer(chat("Name some animals."), **options)
    task = asyncio.create_task(engine.answer(chat("Name some animals."), **options))
    await engine.running(1)
    for ids, bad in (([1], {"temperature": -1}), ([10**6], {}), ([1], {"grammar": "root ::= nothing"})):
        with pytest.raises(ServiceError):
            await engine.answer(ids, **bad)
    assert len((await task).ids) == len(expected.ids) == 40
    assert (await engine.answer(chat("Name some animals."), **options)).ids == expected.ids


async def test_a_grammar_is_followed(engine: Engine, chat: Any, tokenizer: Tokenizer) -> None:
    grammar = 'root ::= "red" | "dark green"'
    assert await engine.fault(grammar) == ""
    answer = await engine.answer(chat("Which colour?"), grammar=grammar, max_new_tokens=20, logprobs=True)
    assert tokenizer.decode(answer.ids) in ("red", "dark green") and answer.finish == ENDED


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("root ::= nothing", "nothing"),
        ('x ::= "a"', "root"),
        ('root ::= "a', "string"),
        ("", "empty"),
        ("  ", "empty"),
        (b"\xff", "UTF-8"),
        ("root ::= \0", "zero"),
        ('root ::= "' + "x" * 70_000 + '"', "65536"),
    ],
)
async def test_a_grammar_that_cannot_be_followed_is_said_so(engine: Engine, grammar: Any, reason: str) -> None:
    for _ in range(2):
        assert reason in await engine.fault(grammar)
    assert await engine.fault('root ::= "a"') == ""


async def test_the_scorer_agrees_with_the_engine(engine: Engine, chat: Any) -> None:
    prompt = chat("Tell me about the sea.")
    answer = await engine.answer(prompt, temperature=0, max_new_tokens=150, ignore_eos=True, logprobs=True)
    scores = await engine.scores([*prompt, *answer.ids])
    assert scores[LOGPROBS][len(prompt) :] == pytest.approx(answer.logprobs, abs=0.01)
    assert scores[TOP_IDS][len(prompt) :, 0].tolist() == answer.ids
    assert scores[LOGPROBS][0] == 0 and (np.diff(scores[TOP_LOGPROBS], axis=1) <= 0).all()


@pytest.mark.parametrize("ids", [[-1], [49152], [5] * 8193])
async def test_the_scorer_refuses_a_bad_prompt(engine: Engine, ids: list[int]) -> None:
    with pytest.raises(ServiceError, match="input_ids") as refusal:
        await engine.scores(ids)
    assert refusal.value.kind is Kind.INVALID_ARGUMENT


async def test_more_than_the_cache_holds_is_still_answered(tmp_path: Any, chat: Any) -> None:
    async with running_engine(tmp_path, kv_blocks="40") as engine:
        with pytest.raises(ServiceError, match="that fit"):
            await engine.answer([5] * 1300)
        prompts = [chat(f"Story {number}") for number in range(6)]
        options = {"max_new_tokens": 400, "ignore_eos": True, "temperature": 0}
        answers = await asyncio.gather(*(engine.answer(prompt, **options) for prompt in prompts))
        assert [len(answer.ids) for answer in answers] == [400] * 6
        await engine.rest()


async def test_every_token_is_in_one_response(engine: Engine, chat: Any) -> None:
    before = (await engine.statistics())[5]
    sizes = [
        len(r[OUTPUT_IDS]) async for r in engine.responses(chat("Hello"), {"max_new_tokens": 8, "ignore_eos": True})
    ]
    assert sum(sizes) == 8 and sizes[0] == 1

    async def counted() -> bool:
        return (await engine.statistics())[5] - before == 8

    await until(counted, "all tokens to be counted")
