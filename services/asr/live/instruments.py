"""The metrics of live streams."""

from services.asr.live.slots import Slots
from services.common.telemetry import SECONDS, Telemetry

_FACTORS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 5)


class LiveInstruments:
    """What is measured of live streams."""

    def __init__(self, telemetry: Telemetry, slots: Slots) -> None:
        telemetry.gauge("flotilla_asr_streams_active", "Places of live streams that are taken.", lambda: slots.taken)
        telemetry.gauge("flotilla_asr_streams_places", "Places for live streams.", lambda: slots.places)
        self._rejected = telemetry.counter("flotilla_admission_rejected", "Calls refused by admission, by reason.")
        self._skipped = telemetry.counter(
            "flotilla_asr_interims_skipped", "Interim readings left out because the engine was busy."
        )
        self._first = telemetry.histogram(
            "flotilla_asr_first_word_latency",
            "Time from the first sound of an utterance to the first word that is sent of it.",
            SECONDS,
            "s",
        )
        self._final = telemetry.histogram(
            "flotilla_asr_final_latency",
            "Time to the final result: from the end of speech, or from the end of the audio that the caller sent.",
            SECONDS,
            "s",
        )
        self._factor = telemetry.histogram(
            "flotilla_asr_stream_real_time_factor",
            "Time spent on the readings of a live stream, over the length of its audio.",
            _FACTORS,
        )

    def refused(self, reason: str) -> None:
        """Count a stream that found no place."""
        self._rejected.add(1, {"reason": reason})

    def skipped(self) -> None:
        """Count an interim reading left out."""
        self._skipped.add(1)

    def first_word(self, seconds: float) -> None:
        """Note the latency of an utterance's first word."""
        self._first.record(seconds)

    def final(self, seconds: float, after: str) -> None:
        """Note the latency of a final result after "speech" or after "audio"."""
        self._final.record(seconds, {"after": after})

    def ended(self, reading_seconds: float, audio_seconds: float) -> None:
        """Note what a stream has cost."""
        if audio_seconds:
            self._factor.record(reading_seconds / audio_seconds)
