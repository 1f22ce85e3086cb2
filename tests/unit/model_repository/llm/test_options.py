import json
from typing import Any

import numpy as np
import pytest

from tests.unit.model_repository.llm.code import code

options = code("options")


def parse(**given: Any) -> Any:
    return options.parse_options(json.dumps(given).encode())


def test_everything_may_be_left_out() -> None:
    assert options.parse_options(b"") == options.parse_options(b"{}") == options.Options()


def test_null_is_left_out() -> None:
    assert parse(seed=None, max_new_tokens=None) == options.Options()


def test_what_is_given_is_taken() -> None:
    given = {
        "max_new_tokens": 7,
        "min_new_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "frequency_penalty": -2,
        "presence_penalty": 2,
        "repetition_penalty": 1.1,
        "seed": 2**64 - 1,
        "ignore_eos": True,
        "logprobs": True,
        "grammar": 'root ::= "a"',
    }
    parsed = parse(**given)
    assert {name: getattr(parsed, name) for name in given} == given


@pytest.mark.parametrize(("temperature", "greedy"), [(0, True), (1e-9, True), (0.01, False), (1, False)])
def test_a_temperature_of_next_to_nothing_is_greedy(temperature: float, greedy: bool) -> None:
    assert parse(temperature=temperature).greedy is greedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("top_k", 1.5),
        ("min_p", 1),
        ("frequency_penalty", 2.1),
        ("presence_penalty", -2.1),
        ("repetition_penalty", 0),
        ("seed", -1),
        ("seed", 2**64),
        ("max_new_tokens", 0),
        ("max_new_tokens", 10**30),
        ("min_new_tokens", -1),
        ("ignore_eos", 1),
        ("logprobs", "yes"),
        ("grammar", ""),
        ("grammar", "a\0b"),
        ("grammar", "\ud800"),
        ("grammar", "x" * 100_000),
        ("grammar", 5),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(options.InvalidRequestError, match=f"options.{name}: "):
        parse(**{name: value})


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_must_be_finite(value: str) -> None:
    with pytest.raises(options.InvalidRequestError, match=r"options\.temperature"):
        options.parse_options(f'{{"temperature": {value}}}'.encode())


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"1", b"[" * 100_000, b'{"best_of": 2}'])
def test_what_is_no_table_of_options_is_refused(content: bytes) -> None:
    with pytest.raises(options.InvalidRequestError, match="options: "):
        options.parse_options(content)


def test_the_least_must_not_be_more_than_the_most() -> None:
    with pytest.raises(options.InvalidRequestError, match="min_new_tokens"):
        parse(min_new_tokens=5, max_new_tokens=4)


def check(ids: list[int], limit: int = 10, **given: Any) -> Any:
    return options.check_prompt(np.array(ids, dtype=np.int32), parse(**given), 100, limit)


def test_an_answer_without_a_limit_gets_all_the_room() -> None:
    assert check([1, 2, 3]) == 7
    assert check([1, 2, 3], max_new_tokens=2) == 2


@pytest.mark.parametrize("ids", [[-1], [100], [0, 2**31 - 1]])
def test_tokens_outside_the_vocabulary_are_refused(ids: list[int]) -> None:
    with pytest.raises(options.InvalidRequestError, match="between 0 and 99"):
        check(ids)


@pytest.mark.parametrize(
    ("tokens", "given"), [(10, {}), (11, {}), (5, {"max_new_tokens": 6}), (5, {"min_new_tokens": 6})]
)
def test_what_cannot_fit_is_refused(tokens: int, given: dict[str, int]) -> None:
    with pytest.raises(options.InvalidRequestError, match="more than the 10 that fit"):
        check([1] * tokens, **given)
