"""What a file will cost, in mel frames of speech, before it has been heard: learnt from the files before."""

from services.asr.mel import HOP
from services.asr.sound.audio import SAMPLE_RATE, AudioFormat

FRAMES_PER_SECOND = SAMPLE_RATE / HOP
_BYTES_PER_SECOND = 16_000.0  # of a file, until some are known: 128 kbit/s
_NEWEST_WEIGHT = 0.2


class Costs:
    """Estimates for admission and load. The unit is that of the batchers: 10 ms of sound that is read."""

    def __init__(self, most_seconds: float) -> None:
        """`most_seconds` is the longest file."""
        self._most = most_seconds * FRAMES_PER_SECOND
        self._frames_per_byte = FRAMES_PER_SECOND / _BYTES_PER_SECOND
        self._share = 1.0

    def of_bytes(self, size: int, audio_format: AudioFormat | None, *, separate: bool = False) -> float:
        """Return the cost of a file of `size` bytes, or of samples of a format, with their channels mixed or apart."""
        per_byte = self._frames_per_byte
        if audio_format is not None and not audio_format.encoding.has_header:
            per_byte = FRAMES_PER_SECOND / (audio_format.sample_rate * audio_format.encoding.sample_bytes)
            per_byte /= 1 if separate else audio_format.channels
        return self._share * min(size * per_byte, self._most)

    def of_seconds(self, seconds: float) -> float:
        """Return the cost of so much audio, all channels together."""
        return self._share * seconds * FRAMES_PER_SECOND

    def learn(self, size: int, audio_seconds: float, speech_seconds: float) -> None:
        """Take a file that is done: its bytes, its audio and its speech, all channels together."""
        if size and audio_seconds:
            frames = audio_seconds * FRAMES_PER_SECOND
            self._frames_per_byte += _NEWEST_WEIGHT * (frames / size - self._frames_per_byte)
            self._share += _NEWEST_WEIGHT * (min(1.0, speech_seconds / audio_seconds) - self._share)
