"""The metrics of the ASR service that only it has; those of live streams are in live_instruments.py."""

from services.common.telemetry import Telemetry

_FACTORS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 2, 5)


class Instruments:
    """What is counted of audio and of its readings."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._audio = telemetry.counter("flotilla_asr_audio", "Audio worked on, each channel by itself.", "s")
        self._speech = telemetry.counter("flotilla_asr_speech", "Audio with speech in it.", "s")
        self._segments = telemetry.counter("flotilla_asr_segments", "Segments of files answered.")
        self._factor = telemetry.histogram(
            "flotilla_asr_real_time_factor",
            "Time from a file's turn to its last segment, over the length of its audio.",
            _FACTORS,
        )
        self._fallbacks = telemetry.counter(
            "flotilla_asr_fallbacks", "Readings done again at a higher temperature, by what was wrong."
        )
        self._dropped = telemetry.counter(
            "flotilla_asr_windows_dropped", "Windows whose text was taken for invented, by what was wrong."
        )
        self._languages = telemetry.counter("flotilla_asr_languages", "Files answered, by language.")

    def transcribed(self, model: str, language: str, audio_seconds: float, speech_seconds: float, took: float) -> None:
        """Count a file that is done; all in seconds."""
        labels = {"model": model}
        self._audio.add(audio_seconds, labels)
        self._speech.add(speech_seconds, labels)
        self._languages.add(1, {**labels, "language": language})
        if audio_seconds:
            self._factor.record(took / audio_seconds, labels)

    def segments(self, model: str, number: int) -> None:
        """Count segments that were sent."""
        self._segments.add(number, {"model": model})

    def fell_back(self, model: str, reason: str) -> None:
        """Count a reading that looked wrong."""
        self._fallbacks.add(1, {"model": model, "reason": reason})

    def dropped(self, model: str, reason: str) -> None:
        """Count a window whose text nobody gets."""
        self._dropped.add(1, {"model": model, "reason": reason})
