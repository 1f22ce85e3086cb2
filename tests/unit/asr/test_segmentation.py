from itertools import pairwise

import numpy as np
import pytest

from services.asr.segmentation import Segmentation, Shape, Stretch
from services.asr.vad import FRAME

RATE = 16_000


def frames(*parts: tuple[float, float]) -> list[float]:
    """Probabilities of parts (seconds, probability)."""
    return [probability for seconds, probability in parts for _ in range(round(seconds * RATE / FRAME))]


def stretches(probabilities: list[float], threshold: float = 0.5, shape: Shape | None = None) -> list[Stretch]:
    segmentation = Segmentation(threshold, shape)
    return segmentation.feed(probabilities) + segmentation.finish(len(probabilities) * FRAME)


def seconds(stretch: Stretch) -> tuple[float, float]:
    return stretch.start / RATE, stretch.stop / RATE


def test_nothing_is_no_window() -> None:
    assert stretches([]) == []
    assert stretches(frames((100, 0.1))) == []


def test_speech_with_silence_around() -> None:
    (only,) = stretches(frames((5, 0.0), (3, 0.9), (5, 0.0)))
    assert seconds(only) == pytest.approx((4.7, 8.3), abs=0.05)
    assert only.spoken / RATE == pytest.approx(3, abs=0.05)


def test_short_pauses_stay_inside() -> None:
    (only,) = stretches(frames((2, 0.9), (1, 0.0), (2, 0.9)))
    assert seconds(only) == pytest.approx((0, 5), abs=0.1)
    assert len(only.speech) == 2


def test_long_pauses_divide() -> None:
    assert len(stretches(frames((2, 0.9), (4, 0.0), (2, 0.9)))) == 2


def test_a_click_is_no_speech() -> None:
    assert stretches(frames((2, 0.0), (0.07, 0.9), (5, 0.0))) == []


def test_speech_goes_on_a_little_below_the_threshold() -> None:
    (only,) = stretches(frames((1, 0.6), (1, 0.4), (1, 0.6)))
    assert len(only.speech) == 1
    assert len(stretches(frames((1, 0.6), (1, 0.3), (1, 0.6)))[0].speech) == 2


def test_the_threshold_decides() -> None:
    assert stretches(frames((3, 0.4)), threshold=0.5) == []
    assert len(stretches(frames((3, 0.4)), threshold=0.3)) == 1


def test_a_long_window_is_divided_at_the_longest_pause_of_its_second_half() -> None:
    one, other = stretches(frames((10, 0.9), (1.5, 0.0), (7, 0.9), (0.6, 0.0), (4, 0.9), (0.3, 0.0), (9, 0.9)))
    assert seconds(one) == pytest.approx((0, 18.8), abs=0.1)
    assert seconds(other)[0] == pytest.approx(18.8, abs=0.1)
    assert one.stop <= other.start


def test_somebody_who_draws_no_breath_is_cut_where_speech_is_least_likely() -> None:
    one, other = stretches(frames((20, 0.9), (0.064, 0.6), (19, 0.9)))
    assert seconds(one)[1] == pytest.approx(20.0, abs=0.1)
    assert one.stop == other.start


def test_pieces_give_the_same_as_the_whole() -> None:
    probabilities = np.random.default_rng(3).random(20_000)
    smooth = np.convolve(probabilities, np.ones(15) / 15, "same").tolist()
    segmentation = Segmentation(0.5)
    pieces = [stretch for first in range(0, 20_000, 7) for stretch in segmentation.feed(smooth[first : first + 7])]
    assert pieces + segmentation.finish(20_000 * FRAME) == stretches(smooth)


@pytest.mark.parametrize("seed", range(30))
def test_windows_are_in_order_apart_and_short_enough(seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [(float(random.exponential(2.5)), float(random.choice([0.0, 0.2, 0.45, 0.6, 0.95]))) for _ in range(300)]
    probabilities = frames(*parts)
    found = stretches(probabilities, threshold=float(random.choice([0.1, 0.5, 0.9])))
    for stretch in found:
        assert 0 < stretch.stop - stretch.start <= 29 * RATE
        assert stretch.speech[0][0] >= stretch.start
        assert stretch.speech[-1][1] <= stretch.stop <= len(probabilities) * FRAME
        assert all(a < b for a, b in stretch.speech)
        assert all(one[1] <= other[0] for one, other in pairwise(stretch.speech))
    assert all(one.stop <= other.start for one, other in pairwise(found))


def test_position_is_what_is_done() -> None:
    segmentation = Segmentation(0.5)
    segmentation.feed(frames((10, 0.0)))
    assert segmentation.position / RATE == pytest.approx(10, abs=0.1)
    segmentation.feed(frames((5, 0.9)))
    assert segmentation.position / RATE == pytest.approx(10, abs=0.1)
