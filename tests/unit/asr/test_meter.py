import pytest

from services.asr.meter import Meter
from services.common.load import Load


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load(clock: Clock) -> Load:
    return Load(4, clock)


def test_a_batch_takes_all_slots(load: Load, clock: Clock) -> None:
    meter = Meter(load, clock)
    with meter.working():
        clock.now += 2
    meter.worked(1000, 2)
    assert load.capacity == pytest.approx(500)


def test_batches_of_two_models_at_a_time_share_it(load: Load, clock: Clock) -> None:
    meter = Meter(load, clock)
    with meter.working():
        clock.now += 1
        with meter.working():
            clock.now += 2
        meter.worked(600, 2)
        clock.now += 1
    meter.worked(1400, 4)
    assert load.capacity == pytest.approx(2000 / 4, rel=0.1)


def test_idle_time_is_not_counted(load: Load, clock: Clock) -> None:
    meter = Meter(load, clock)
    for _ in range(3):
        with meter.working():
            clock.now += 1
        meter.worked(500, 1)
        clock.now += 100
    assert load.capacity == pytest.approx(500)


def test_a_batch_that_failed_tells_nothing(load: Load, clock: Clock) -> None:
    meter = Meter(load, clock)
    with pytest.raises(RuntimeError), meter.working():
        clock.now += 60
        raise RuntimeError
    with meter.working():
        clock.now += 1
    meter.worked(500, 1)
    assert load.capacity == pytest.approx(500)
