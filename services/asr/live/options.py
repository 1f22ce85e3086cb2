"""flotilla.asr.v1: what is wanted of a live stream, checked field by field."""

from collections.abc import Sequence
from dataclasses import dataclass

from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.live.endpointing import EndpointingOptions
from services.asr.messages import named_format
from services.asr.options import Options, ServedModel, options_of
from services.asr.sound.audio import AudioFormat, AudioLimits, FormatFields
from services.common.errors import invalid

_FIELDS = FormatFields(
    "config.config.audio.encoding", "config.config.audio.sample_rate_hz", "config.config.audio.channels"
)
_STOP_SILENCE_MS, _START_SPEECH_MS = (100, 5000), (32, 2000)


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The parameters of a live stream."""

    options: Options
    format: AudioFormat
    endpointing: EndpointingOptions
    interim_results: bool
    single_utterance: bool

    @property
    def channels(self) -> int:
        """Channels that are recognised, each by itself."""
        return self.format.channels if self.options.separate_channels else 1


def live_options_of(config: pb.StreamingConfig, models: Sequence[ServedModel], limits: AudioLimits) -> LiveOptions:
    """Return the parameters of a configuration that is in order.

    Raises INVALID_ARGUMENT that names the field, NOT_FOUND for an unknown model.
    """
    options = options_of(config.config, models, "config.config")
    found = named_format(config.config.audio, limits, _FIELDS)
    if options.separate_channels and not found.channels:
        raise invalid(_FIELDS.channels, f"{_FIELDS.channels} must be set where channels are separate in a live stream")
    return LiveOptions(
        options,
        found,
        _endpointing(config.endpointing, options.speech_threshold),
        config.interim_results,
        config.single_utterance,
    )


def _endpointing(endpointing: pb.Endpointing, speech_threshold: float) -> EndpointingOptions:
    default = EndpointingOptions()
    threshold = endpointing.threshold if endpointing.HasField("threshold") else speech_threshold
    if not 0 < threshold < 1:  # NaN as well
        field = "config.endpointing.threshold"
        raise invalid(field, f"{field} is {threshold:g}; it must be above 0 and below 1")
    return EndpointingOptions(
        start_speech_ms=_milliseconds(endpointing, "start_speech_ms", default.start_speech_ms, _START_SPEECH_MS),
        stop_silence_ms=_milliseconds(endpointing, "stop_silence_ms", default.stop_silence_ms, _STOP_SILENCE_MS),
        threshold=threshold,
    )


def _milliseconds(endpointing: pb.Endpointing, name: str, default: int, limits: tuple[int, int]) -> int:
    value = int(getattr(endpointing, name)) if endpointing.HasField(name) else default  # type: ignore[arg-type]
    if not limits[0] <= value <= limits[1]:
        field = f"config.endpointing.{name}"
        raise invalid(field, f"{field} is {value}; it takes {limits[0]:,} to {limits[1]:,} ms")
    return value
