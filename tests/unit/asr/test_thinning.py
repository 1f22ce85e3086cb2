from services.asr.live.thinning import Pace, Thinning
from services.common.load import Load


def test_interims_may_keep_the_engine_for_a_moment_only():
    load = Load(1)
    load.worked(10_000, 10.0)  # frames a second: 1,000
    thinning = Thinning(load)
    assert thinning.allows(5_000)  # one alone always
    with thinning.reading(300):
        assert thinning.allows(100) and not thinning.allows(101)
        with thinning.reading(100):
            assert not thinning.allows(100)
    assert thinning.allows(5_000)


def test_slow_readings_come_less_often():
    now = 0.0
    pace = Pace(lambda: now)
    with pace.reading():
        now = 3.0
    now = 7.4
    assert not pace.due
    now = 7.5
    assert pace.due


def test_quick_readings_keep_a_least_interval():
    now = 0.0
    pace = Pace(lambda: now)
    with pace.reading():
        now = 0.01
    now = 0.4
    assert not pace.due
    now = 0.5
    assert pace.due
    pace.skip()
    assert not pace.due
