import pytest

from services.common.load import Load


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_nothing_is_known_at_first(clock):
    load = Load(2, clock)
    load.offered(100)
    assert (load.capacity, load.saturation(), load.seconds_for(10)) == (0, 0, 0)


def test_capacity_is_learnt_from_busy_time_of_all_slots(clock):
    load = Load(2, clock)
    load.worked(50, 0.5)
    assert load.capacity == 200
    assert load.seconds_for(100) == 0.5


def test_saturation_is_offered_over_sustainable_in_the_window(clock):
    load = Load(1, clock)
    load.worked(100, 1)
    for _ in range(15):
        load.offered(100)
        clock.now += 1
    assert load.saturation() == pytest.approx(1.0)
    clock.now += 20
    assert load.saturation() == 0


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 0.75])
def test_a_steady_rate_reads_the_same_at_every_part_of_a_second(clock, part):
    load = Load(1, clock)
    load.worked(100, 1)
    for _ in range(80):
        load.offered(25)
        clock.now += 0.25
    clock.now += part
    for _ in range(round(part / 0.25)):
        load.offered(25)
    assert load.saturation() == pytest.approx(1.0, abs=0.01)


def test_what_left_the_window_is_forgotten_without_anyone_asking(clock):
    load = Load(1, clock)
    for _ in range(1000):
        load.offered(1)
        clock.now += 1
    assert len(load._offered) <= 16


def test_the_fullest_bound_counts_where_it_is_above_the_rate(clock):
    load = Load(1, clock)
    used = [0.25]
    load.bounded_by(lambda: used[0])
    assert load.saturation() == 0.25
    load.worked(100, 1)
    load.offered(750)
    assert load.saturation() == pytest.approx(0.5)
    used[0] = 0.9
    assert load.saturation() == 0.9
