from contextlib import ExitStack

import pytest

from services.asr.live.slots import Slots
from services.common.errors import Kind, ServiceError


def test_past_the_last_place_a_stream_is_refused_with_a_hint():
    slots, reasons = Slots(3), list[str]()
    with slots.hold(1, reasons.append), slots.hold(2, reasons.append):
        assert slots.use == 1.0
        with pytest.raises(ServiceError) as refused, slots.hold(1, reasons.append):
            pass
    assert refused.value.kind is Kind.OVERLOADED and refused.value.code == "streams_full"
    assert refused.value.retry_after is not None and 1 <= refused.value.retry_after <= 60
    assert reasons == ["streams_full"] and slots.taken == 0


def test_a_place_is_free_again_after_a_fault():
    slots = Slots(1)
    with pytest.raises(RuntimeError), slots.hold(1, lambda _: None):
        raise RuntimeError
    assert slots.taken == 0


def test_the_hint_follows_how_long_streams_last():
    now = 0.0
    slots = Slots(1, lambda: now)
    for _ in range(50):
        with slots.hold(1, lambda _: None):
            now += 40
    with slots.hold(1, lambda _: None), pytest.raises(ServiceError) as refused, slots.hold(1, lambda _: None):
        pass
    assert refused.value.retry_after == pytest.approx(40, rel=0.1)


def test_streams_that_found_no_place_count_as_the_places_they_would_have_held():
    now = [100.0]
    slots = Slots(4, lambda: now[0])  # streams are taken to last 10 s
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(slots.hold(1, lambda reason: None))
        assert slots.use == 1
        for _ in range(6):  # in the 15 s of the window as many as have had a place
            with pytest.raises(ServiceError), slots.hold(1, lambda reason: None):
                pass
        assert slots.use == pytest.approx(2.0)
        now[0] += 20
        assert slots.use == 1
