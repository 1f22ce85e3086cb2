import pytest

from services.common.capacity import Objective
from services.common.load import Load
from tests.unit.common.test_load import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def load(clock):
    load = Load(2, clock, Objective(0.25, 0.001))
    load.worked(50, 0.5)  # a guess from busy time: 200 a second
    return load


def a_second(load, clock, calls, took, *, crowded=True, cost=10):
    for _ in range(calls):
        load.offered(cost)
        load.ended(cost, took, completed=True, crowded=crowded)
    clock.now += 1


def test_until_calls_have_ended_it_is_the_guess_from_busy_time(load):
    assert load.capacity == 200


def test_while_calls_come_late_in_a_queue_what_gets_done_is_the_capacity(load, clock):
    for _ in range(15):
        a_second(load, clock, calls=12, took=1.0)
    assert load.capacity == pytest.approx(120, rel=0.1)
    assert load.saturation() == pytest.approx(1.0, abs=0.1)


def test_it_follows_within_fifteen_seconds_when_twice_as_much_is_offered(load, clock):
    for _ in range(15):
        a_second(load, clock, calls=12, took=1.0)
        load.offered(120)  # refused, say
    assert load.saturation() > 1.5


def test_the_objective_grants_time_for_each_unit_of_cost(load, clock):
    assert load.ended(1000, 1.2, completed=True, crowded=True)
    assert not load.ended(1000, 1.3, completed=True, crowded=True)
    assert Load(1).ended(1, 1e9, completed=True, crowded=True), "without an objective nothing is late"


def test_a_call_that_is_slow_though_alone_tells_nothing(load, clock):
    for _ in range(15):
        a_second(load, clock, calls=1, took=5.0, crowded=False)
    assert load.capacity == pytest.approx(200)


def test_what_gets_done_in_time_for_a_whole_window_is_sustained(load, clock):
    for _ in range(20):
        a_second(load, clock, calls=40, took=0.1)
    assert load.capacity == pytest.approx(400, rel=0.06)


def test_few_calls_show_less_than_many(load, clock):
    for _ in range(20):
        a_second(load, clock, calls=4, took=0.1, cost=100)
    assert load.capacity == pytest.approx(400 - 100 * 40**0.5 / 10)


def test_less_work_leaves_what_is_known_as_it_is(load, clock):
    for _ in range(15):
        a_second(load, clock, calls=12, took=1.0)
    full = load.capacity
    for _ in range(60):
        a_second(load, clock, calls=6, took=0.1)
    assert load.capacity == pytest.approx(full, rel=0.05)
    assert load.saturation() == pytest.approx(0.5, abs=0.05)


def test_after_hours_of_little_work_the_guess_counts_again(load, clock):
    for _ in range(15):
        a_second(load, clock, calls=12, took=1.0)
    for _ in range(7200):
        a_second(load, clock, calls=1, took=0.1)
    assert load.capacity == pytest.approx(200, rel=0.05)


def test_between_two_overloads_there_is_no_overload(load, clock):
    for _ in range(15):
        a_second(load, clock, calls=12, took=1.0)
    full = load.capacity
    for call in range(12):
        load.ended(10, 1.0, completed=True, crowded=call < 10)  # and then the queue is gone
    clock.now += 10
    a_second(load, clock, calls=12, took=1.0)
    a_second(load, clock, calls=12, took=1.0)
    assert load.capacity == pytest.approx(full, rel=0.02)


def test_a_pause_in_an_overload_is_no_work_that_took_long(load, clock):
    for _ in range(10):
        a_second(load, clock, calls=12, took=1.0)
    clock.now += 3600
    a_second(load, clock, calls=12, took=1.0)
    a_second(load, clock, calls=12, took=1.0)
    assert load.capacity > 100


def test_refusals_are_lateness_and_calls_that_were_not_completed_are_no_work(load, clock):
    for _ in range(15):
        for _ in range(6):
            load.ended(10, 0.1, completed=True, crowded=True)
            load.ended(10, 0.1, completed=False, crowded=True)
        for _ in range(20):
            load.refused()
        clock.now += 1
    assert load.capacity == pytest.approx(60, rel=0.2)


def test_what_more_is_done_at_the_price_of_being_late_does_not_count(load, clock):
    for _ in range(20):
        a_second(load, clock, calls=8, took=0.1)  # in time, 80 a second
    for _ in range(30):
        a_second(load, clock, calls=9, took=1.0)
    at_the_limit = load.capacity
    for _ in range(30):
        a_second(load, clock, calls=15, took=3.0)
    assert at_the_limit == pytest.approx(90, rel=0.1)
    assert load.capacity == pytest.approx(at_the_limit, rel=0.05)
    assert load.saturation() > 1.5
    for _ in range(30):
        a_second(load, clock, calls=4, took=0.1)
    assert load.capacity == pytest.approx(at_the_limit, rel=0.05), "nor when the overload is over"


def test_of_seconds_that_scatter_the_mean_counts_and_not_the_worst(load, clock):
    for _ in range(30):
        for calls in (6, 18):
            a_second(load, clock, calls=calls, took=1.0)
    assert load.capacity == pytest.approx(120, rel=0.1)


def test_the_end_of_a_backlog_is_no_second_in_which_little_could_be_done(load, clock):
    for _ in range(20):
        a_second(load, clock, calls=12, took=0.1)
    for _ in range(15):
        a_second(load, clock, calls=12, took=1.0)
    full = load.capacity
    a_second(load, clock, calls=2, took=1.0)
    clock.now += 3
    assert load.capacity == pytest.approx(full, rel=0.01)


def test_one_late_call_in_thirty_is_within_the_objective(load, clock):
    for _ in range(20):
        a_second(load, clock, calls=29, took=0.1)
        load.ended(10, 9.0, completed=True, crowded=True)
    assert load.capacity == pytest.approx(300, rel=0.06)


def test_work_in_units_nobody_guessed_at_counts_by_itself(clock):
    load = Load(1, clock, Objective(0.1))
    for _ in range(15):
        a_second(load, clock, calls=3, took=1.0)
    assert load.capacity == pytest.approx(30)
