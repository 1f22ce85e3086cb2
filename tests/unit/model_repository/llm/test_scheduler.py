"""The scheduler on a pipeline that counts: a prompt [n, ...] is answered n + 1, n + 2, ..."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.model_repository.llm.code import code

scheduler = code("scheduler")
options = code("options")
BAD = "root ::= nothing"


class FakeHandle:
    def __init__(self, ids: list[int], count: int, grammar: str | None) -> None:
        self.ids, self.left, self.grammar = ids, count, grammar
        self.news: list[int] = []
        self.cancelled = self.given_up = False

    def read(self) -> tuple[list[int], list[float], int] | None:
        if self.given_up:
            return None
        news, self.news = self.news, []
        return news, [-0.5] * len(news), 0 if self.left else 2

    def cancel(self) -> None:
        self.cancelled = True


class FakePipeline:
    """One step at a time, as the test allows; a bad grammar makes every step fail until all are cancelled."""

    def __init__(self) -> None:
        self.handles: list[FakeHandle] = []
        self.allowed = threading.Semaphore(0)
        self.broken = False
        self.steps = 0

    def add(self, ids: list[int], count: int, given: Any) -> FakeHandle:
        if ids == [13]:
            raise RuntimeError("refused")
        self.handles.append(FakeHandle(ids, count, given.grammar))
        return self.handles[-1]

    def is_busy(self) -> bool:
        self.handles = [handle for handle in self.handles if not handle.cancelled and handle.left]
        return bool(self.handles) or self.broken

    def step(self) -> None:
        self.allowed.acquire(timeout=30)
        self.steps += 1
        if self.broken or any(h.grammar == BAD and not h.cancelled for h in self.handles):
            raise RuntimeError("a bad grammar")
        for handle in self.handles:
            if not handle.cancelled and handle.left:
                handle.ids = [*handle.ids, handle.ids[-1] + 1]
                handle.news.append(handle.ids[-1])
                handle.left -= 1


class FakeStream:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.responses: list[list[int]] = []
        self.end = threading.Event()
        self.finish, self.cached, self.fault = 0, -1, ""
        self.cancelled = self.broken = False

    def send(self, ids: list[int], logprobs: list[float], finish: int, cached: int) -> None:
        if self.broken:
            raise RuntimeError("gone")
        assert len(ids) == len(logprobs)
        self.ids += ids
        self.responses.append(list(ids))
        self.finish, self.cached = finish, cached
        if finish:
            self.end.set()

    def fail(self, message: str) -> None:
        self.fault = message
        self.end.set()

    def let_go(self) -> None:
        self.fail("cancelled")

    def is_cancelled(self) -> bool:
        return self.cancelled


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Engine:
    """A scheduler and what the test sees of it."""

    def __init__(self, **settings: Any) -> None:
        defaults = {"kv_blocks": 100, "max_running": 4, "hold_seconds": 0.0, "hold_from_streams": 2}
        self.pipelines: list[FakePipeline] = []
        self.dead = threading.Event()
        self.build_fails = False
        self.scheduler = scheduler.Scheduler(self._build, SimpleNamespace(**defaults | settings), self.dead.set)

    def _build(self) -> FakePipeline:
        if self.build_fails:
            raise MemoryError
        self.pipelines.append(FakePipeline())
        return self.pipelines[-1]

    @property
    def pipeline(self) -> FakePipeline:
        return self.pipelines[-1]

    def ask(self, ids: list[int], count: int = 3, **given: Any) -> FakeStream:
        stream = FakeStream()
        self.scheduler.submit(scheduler.Request(ids, count, options.Options(**given), stream))
        return stream

    def allow(self, steps: int) -> None:
        self.pipeline.allowed.release(steps)

    def statistics(self) -> list[float]:
        return list(self.scheduler.statistics())


@pytest.fixture
def make() -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def start(**settings: Any) -> Engine:
        engines.append(Engine(**settings))
        return engines[-1]

    yield start
    for engine in engines:
        engine.allow(1000)
        engine.scheduler.close()


@pytest.fixture
def engine(make: Callable[..., Engine]) -> Engine:
    return make()


def ended(*streams: FakeStream) -> None:
    for stream in streams:
        assert stream.end.wait(30)


def test_answers_stream_token_by_token(engine: Engine) -> None:
    stream = engine.ask([10], 3)
    engine.allow(3)
    ended(stream)
    assert stream.responses == [[11], [12], [13]] and stream.finish == 2
    until(lambda: engine.statistics() == [0, 0, 0.0, 1, 0, 3, 0, 3])


def test_several_run_at_once_and_the_others_wait(make: Callable[..., Engine]) -> None:
    engine = make(max_running=2)
    streams = [engine.ask([10 * n], 2) for n in range(1, 6)]
    until(lambda: engine.statistics()[:2] == [2, 3])
    engine.allow(100)
    ended(*streams)
    assert [stream.ids for stream in streams] == [[10 * n + 1, 10 * n + 2] for n in range(1, 6)]


def test_the_cache_bounds_what_runs_but_one_always_does(make: Callable[..., Engine]) -> None:
    engine = make(kv_blocks=10)
    long, short = engine.ask([1] * 500, 2), engine.ask([1] * 64, 2)
    until(lambda: engine.statistics()[:2] == [1, 1])
    assert engine.statistics()[2] == 1.0
    engine.allow(100)
    ended(long, short)


def test_a_cancelled_request_leaves_with_the_next_step(engine: Engine) -> None:
    gone, stays = engine.ask([10], 50), engine.ask([20], 3)
    until(lambda: engine.statistics()[0] == 2)
    gone.cancelled = True
    engine.allow(1)
    ended(gone)
    assert gone.fault == "cancelled" and len(gone.ids) <= 1
    engine.allow(10)
    ended(stays)
    assert stays.ids == [21, 22, 23]
    until(lambda: engine.statistics()[0] == 0)
    assert engine.statistics()[6] == 1


def test_a_cancelled_request_need_not_start(make: Callable[..., Engine]) -> None:
    engine = make(max_running=1)
    runs = engine.ask([10], 3)
    until(lambda: engine.statistics()[0] == 1)
    waiting = [engine.ask([20 + n], 3) for n in range(20)]
    for stream in waiting:
        stream.cancelled = True
    engine.allow(100)
    ended(runs, *waiting)
    assert all(stream.ids == [] for stream in waiting)
    until(lambda: engine.statistics()[:2] == [0, 0])
    assert engine.statistics()[6] == 20


def test_one_that_the_engine_refuses_fails_alone(engine: Engine) -> None:
    bad, good = engine.ask([13]), engine.ask([10])
    engine.allow(10)
    ended(bad, good)
    assert "refused" in bad.fault and good.ids == [11, 12, 13]


def test_a_failed_step_ends_who_caused_it_and_the_others_go_on(engine: Engine) -> None:
    good = engine.ask([10], 5)
    engine.allow(2)
    until(lambda: len(good.ids) == 2)
    bad = engine.ask([20], 3, grammar=BAD)
    engine.allow(20)
    ended(bad, good)
    assert "failed" in bad.fault and not bad.ids
    assert good.ids == [11, 12, 13, 14, 15] and good.finish == 2
    assert engine.statistics()[3] == 2  # a prompt is counted once
    assert len(engine.pipelines) == 1


def test_an_engine_that_stays_broken_is_built_anew(engine: Engine) -> None:
    good = engine.ask([10], 4)
    until(lambda: engine.statistics()[0] == 1)
    first = engine.pipeline
    first.broken = True
    first.allowed.release(200)
    until(lambda: len(engine.pipelines) == 2)
    engine.allow(10)
    ended(good)
    assert good.ids == [11, 12, 13, 14]


def test_a_second_failure_ends_the_request(engine: Engine) -> None:
    stream = engine.ask([10], 4)
    for number in (1, 2):
        until(lambda number=number: len(engine.pipelines) == number and engine.pipeline.handles)
        engine.pipeline.broken = True
        engine.pipeline.allowed.release(200)
    ended(stream)
    assert "failed" in stream.fault


def test_an_engine_that_cannot_be_built_ends_the_process(engine: Engine) -> None:
    engine.ask([10], 4)
    until(lambda: engine.pipeline.handles)
    engine.build_fails = engine.pipeline.broken = True
    engine.allow(200)
    assert engine.dead.wait(30)


def test_a_stream_that_breaks_takes_no_other_with_it(engine: Engine) -> None:
    bad, good = engine.ask([10], 5), engine.ask([20], 3)
    bad.broken = True
    engine.allow(20)
    ended(good)
    assert good.ids == [21, 22, 23]
    until(lambda: engine.statistics()[0] == 0)


def test_what_the_engine_gives_up_ends_with_an_error(engine: Engine) -> None:
    stream = engine.ask([10], 5)
    until(lambda: engine.pipeline.handles)
    engine.pipeline.handles[0].given_up = True
    engine.allow(5)
    ended(stream)
    assert "gave" in stream.fault


def test_many_streams_send_the_first_token_at_once_and_hold_the_next(make: Callable[..., Engine]) -> None:
    engine = make(hold_seconds=1000.0)
    streams = [engine.ask([10 * n], 4) for n in (1, 2)]
    until(lambda: engine.statistics()[0] == 2)
    engine.allow(4)
    ended(*streams)
    assert all([len(ids) for ids in stream.responses] == [1, 3] for stream in streams)


def test_one_stream_holds_nothing(make: Callable[..., Engine]) -> None:
    engine = make(hold_seconds=1000.0)
    stream = engine.ask([10], 3)
    engine.allow(3)
    ended(stream)
    assert len(stream.responses) == 3


def test_a_repeated_prompt_is_found_in_the_cache(engine: Engine) -> None:
    ids = list(range(100))
    engine.allow(10)
    first = engine.ask(ids, 1)
    ended(first)
    second = engine.ask(ids, 1)
    ended(second)
    assert (first.cached, second.cached) == (0, 96)
    assert engine.statistics()[4] == 96
