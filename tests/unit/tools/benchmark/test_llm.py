"""The language benchmark's rows, goals, readers and requests."""

import json
import math

import pytest

from tools.benchmark.language_posts import language_posts
from tools.benchmark.stream_clients import read_events
from tools.benchmark.stream_rows import CacheRow, cache_row, goals, stream_rows
from tools.benchmark.streams import Answer, Burst, Flow, flow_of
from tools.benchmark.targets import ENGINE, LLAMACPP, STACK


def flow(tokens=10, seconds=1.0, first=0.1, answers=1, error=""):
    return Flow([Answer(0.0, first, seconds, tokens, error) for _ in range(answers)], seconds, 0.1)


def lines(*events):
    return [(1.0 + i, b"data: " + json.dumps(event).encode() + b"\n") for i, event in enumerate(events)]


def delta(text):
    return {"choices": [{"delta": {"content": text}}]}


def test_a_row_is_the_median_of_its_rounds():
    flows = {ENGINE: [flow(100), flow(50), flow(200)], STACK: [flow(90), flow(40), flow(100)]}
    engine, stack = stream_rows(flows, ENGINE, 32, 8)
    assert (engine.rate, engine.ratio) == (100, 1.0)
    assert (stack.rate, stack.ratio, stack.streams, stack.prompt_tokens) == (90, 0.8, 8, 32)
    assert stack.first_token == pytest.approx(100)
    assert stack.gap == pytest.approx(900 / 89)


def test_failed_answers_are_counted_and_tell_nothing():
    (row,) = stream_rows({ENGINE: [flow(error="", answers=2), flow(error="broken")]}, ENGINE, 32, 1)
    assert (row.errors, row.first_error) == (1, "broken")
    (nothing,) = stream_rows({ENGINE: [flow(error="broken")]}, ENGINE, 32, 1)
    assert math.isnan(nothing.first_token)


def test_goals_are_those_that_the_run_can_tell():
    rows = [
        row
        for streams, own, other in ((1, 50, 60), (8, 95, 50), (32, 90, 50))
        for row in stream_rows({ENGINE: [flow(100)], STACK: [flow(own)], LLAMACPP: [flow(other)]}, ENGINE, 32, streams)
    ]
    first = stream_rows({ENGINE: [flow(first=0.05)], STACK: [flow(first=0.058)]}, ENGINE, 32, 1)
    caches = [cache_row(STACK, [flow(first=0.9)], [flow(first=0.1)]), CacheRow(ENGINE, 1, 1, 0)]
    found = goals(rows, first, caches)
    assert [goal.reached for goal in found] == pytest.approx([49 / 59, 0.95, 1.9, 8, 9], rel=0.01)
    assert [goal.met for goal in found] == [True] * 5


def test_a_flow_knows_answers_that_are_too_short():
    class Clients:
        def run(self, burst):
            answers = [Answer(), Answer()]
            for answer, tokens in zip(answers, (burst.tokens, 1), strict=True):
                answer.came(tokens)
            return answers

    made = flow_of(Clients(), Burst([], 2, 3))
    assert [answer.error for answer in made.answers] == ["", "1 tokens instead of 3"]
    assert len(made.good) == 1


def test_events_of_chats_and_completions_are_read_alike():
    usage = {"choices": [], "usage": {"completion_tokens": 3}}
    chat, completion = Answer(), Answer()
    read_events([(0.5, b": keep-alive\n"), *lines(delta(""), delta("a"), delta("b"), usage)], chat)
    read_events(lines({"choices": [{"text": ""}]}, {"choices": [{"text": "a"}]}, usage), completion)
    assert (chat.first, chat.last, chat.tokens) == (2.0, 3.0, 3)
    assert (completion.first, completion.last, completion.tokens) == (2.0, 2.0, 3)
    with pytest.raises(RuntimeError, match="engine died"):
        read_events(lines(delta("a"), {"error": {"message": "engine died"}}), Answer())


def test_requests_of_the_soak_are_mixed_and_the_same_in_every_run():
    posts = language_posts("m", 400)
    assert posts == language_posts("m", 400)
    leaving = [post for post in posts if post.leave_after is not None]
    assert 0.15 < len(leaving) / len(posts) < 0.35
    assert all(json.loads(post.body)["stream"] for post in leaving)
    assert {post.status for post in posts} == {200, 400}
    assert {post.path for post in posts} == {"/v1/chat/completions", "/v1/completions"}
