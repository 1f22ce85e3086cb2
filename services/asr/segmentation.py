"""Where windows of a recording begin and end: in silence where there is any. Probabilities in, no samples.

A window gathers spans of speech that are close to each other. It ends at a long silence; one that has become too long
is divided at the longest pause of its second half, or where speech is least likely if nobody draws breath.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from services.asr.sound.audio import SAMPLE_RATE
from services.asr.vad import FRAME

_FRAMES_PER_SECOND = SAMPLE_RATE / FRAME
HYSTERESIS = 0.15
"""Speech that has begun goes on down to so much below the threshold."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How windows are cut, in seconds."""

    longest: float = 28.0
    """Speech of one window from its beginning to its end."""
    longest_pause: float = 2.0
    """Silence that a window may have inside."""
    padding: float = 0.3
    """Sound before and after the speech."""
    least_pause: float = 0.1
    """Silence that divides two spans of speech."""
    least_speech: float = 0.13
    """Shorter speech is none."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A window of a recording, in samples."""

    start: int
    stop: int
    speech: tuple[tuple[int, int], ...]
    """Spans of speech within, [start, stop) in samples of the recording."""

    @property
    def spoken(self) -> int:
        """Samples with speech."""
        return sum(stop - start for start, stop in self.speech)


@dataclass(slots=True)
class _Span:
    start: int
    stop: int


class Segmentation:
    """Finds the windows of one channel while it is read."""

    def __init__(self, threshold: float, shape: Shape | None = None) -> None:
        """`threshold` is the probability from which on there is speech."""
        shape = shape or Shape()
        self._enter, self._leave = threshold, max(threshold - HYSTERESIS, threshold / 4)
        self._longest, self._longest_pause = _frames(shape.longest), _frames(shape.longest_pause)
        self._padding = round(shape.padding * SAMPLE_RATE)
        self._least_pause, self._least_speech = _frames(shape.least_pause), _frames(shape.least_speech)
        self._frame = 0  # the next one
        self._spans: list[_Span] = []  # of the window that is being gathered
        self._speaking = False
        self._recent: deque[float] = deque(maxlen=self._longest)
        self._last_stop = 0  # samples; of the window before

    @property
    def position(self) -> int:
        """Samples before which nothing is still to come."""
        return self._spans[0].start * FRAME if self._spans else self._frame * FRAME

    def feed(self, probabilities: Iterable[float]) -> list[Stretch]:
        """Take the probabilities of the next frames and return the windows that are complete."""
        return [stretch for probability in probabilities for stretch in self._next(probability)]

    def finish(self, samples: int) -> list[Stretch]:
        """Return what is left of a recording of so many samples."""
        if self._speaking:
            self._close(self._frame)
        return self._emit(len(self._spans), samples) if self._spans else []

    def _next(self, probability: float) -> list[Stretch]:
        frame, self._frame = self._frame, self._frame + 1
        self._recent.append(probability)
        if self._speaking:
            if probability >= self._leave:
                self._spans[-1].stop = frame + 1
            elif frame + 1 - self._spans[-1].stop >= self._least_pause:
                self._close(self._spans[-1].stop)
        elif probability >= self._enter:
            self._speaking = True
            self._spans.append(_Span(frame, frame + 1))
        if not self._spans:
            return []
        if not self._speaking and self._frame - self._spans[-1].stop >= self._longest_pause:
            return self._emit(len(self._spans), self._frame * FRAME)
        return self._divide() if self._frame - self._spans[0].start >= self._longest else []

    def _close(self, stop: int) -> None:
        self._speaking = False
        self._spans[-1].stop = stop
        if stop - self._spans[-1].start < self._least_speech:
            self._spans.pop()

    def _divide(self) -> list[Stretch]:
        spans, middle = self._spans, self._spans[0].start + self._longest // 2
        starts = [span.start for span in spans[1:]] + ([] if self._speaking else [self._frame])
        pauses = [
            (start - span.stop, place + 1) for place, (span, start) in enumerate(zip(spans, starts, strict=False))
        ]
        late = [(length, place) for length, place in pauses if spans[place - 1].stop >= middle]
        if late:
            place = max(late)[1]
            bound = spans[place].start if place < len(spans) else self._frame
            return self._emit(place, (spans[place - 1].stop + bound) * FRAME // 2)
        cut = self._least_likely(middle)
        running = _Span(cut, spans[-1].stop)
        spans[-1].stop = cut
        stretches = self._emit(len(spans), cut * FRAME)
        self._spans = [running]
        return stretches

    def _least_likely(self, first: int) -> int:
        """Return the frame from `first` on in which speech is least likely."""
        offset = self._frame - len(self._recent)
        start = max(first, self._spans[-1].start + 1)
        return min(range(start, self._frame), key=lambda frame: self._recent[frame - offset])

    def _emit(self, count: int, bound: int) -> list[Stretch]:
        """Let go of the first `count` spans as a window that ends at `bound` samples at the latest."""
        spans, self._spans = self._spans[:count], self._spans[count:]
        start = max(self._last_stop, spans[0].start * FRAME - self._padding)
        stop = max(start, min(bound, spans[-1].stop * FRAME + self._padding))
        self._last_stop = stop
        speech = tuple((max(start, span.start * FRAME), min(stop, span.stop * FRAME)) for span in spans)
        return [Stretch(start, stop, speech)]


def _frames(seconds: float) -> int:
    return max(1, round(seconds * _FRAMES_PER_SECOND))
