"""Where somebody begins and ends to speak, from the probabilities of speech. Knows no samples and no text."""

from collections.abc import Iterable
from dataclasses import dataclass

FRAME_MS = 32
_HYSTERESIS, _LEAST_THRESHOLD = 0.15, 0.01  # Silero's own: speech goes on a little below what starts it


@dataclass(frozen=True, slots=True)
class Started:
    """Somebody speaks since `frame`."""

    frame: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Nobody speaks since `frame`."""

    frame: int


@dataclass(frozen=True, slots=True)
class EndpointingOptions:
    """When an utterance begins and ends."""

    start_speech_ms: int = 96
    stop_silence_ms: int = 500
    threshold: float = 0.5


class Endpointer:
    """Follows one channel, frame by frame of 32 ms."""

    def __init__(self, options: EndpointingOptions) -> None:
        self._threshold = options.threshold
        self._low = max(options.threshold - _HYSTERESIS, _LEAST_THRESHOLD)
        self._start_frames = max(1, round(options.start_speech_ms / FRAME_MS))
        self._stop_frames = max(1, round(options.stop_silence_ms / FRAME_MS))
        self.frames = 0
        """Frames heard so far."""
        self.speech_frames = 0
        """Those of them in which somebody spoke."""
        self.speaking = False
        self.spoken_until = 0
        """The frame after the last one with speech."""
        self._run = 0  # frames of speech in a row while nobody is known to speak

    @property
    def silent_frames(self) -> int:
        """Frames since somebody spoke."""
        return self.frames - self.spoken_until

    def feed(self, probabilities: Iterable[float]) -> list[Started | Ended]:
        """Take the next frames and return what has changed in them."""
        return [change for probability in probabilities if (change := self._next(probability)) is not None]

    def finish(self) -> list[Ended]:
        """Return the end of an utterance that was going on when the audio ended."""
        if not self.speaking:
            return []
        self.speaking = False
        return [Ended(self.spoken_until)]

    def _next(self, probability: float) -> Started | Ended | None:
        speech = probability >= (self._low if self.speaking else self._threshold)
        self.frames += 1
        if speech:
            self.spoken_until = self.frames
        if self.speaking:
            self.speech_frames += speech
            return self._silence()
        self._run = self._run + 1 if speech else 0
        if self._run < self._start_frames:
            return None
        self.speaking, self.speech_frames = True, self.speech_frames + self._run
        return Started(self.frames - self._run)

    def _silence(self) -> Ended | None:
        if self.silent_frames < self._stop_frames:
            return None
        self.speaking, self._run = False, 0
        return Ended(self.spoken_until)
