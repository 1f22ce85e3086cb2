"""nvidia.riva.asr: what a Riva client wants, as a configuration of flotilla.asr.v1. Nothing here hears anything.

What cannot be done is refused where the result would be another one than was asked for, and taken as it is where the
models do it anyway: text always comes with punctuation and with numbers as people write them.
"""

from typing import Any

from flotilla.asr.v1 import asr_pb2 as pb
from riva.client.proto import riva_audio_pb2 as riva_audio

from services.asr.languages import code_of
from services.asr.options import MOST_ALTERNATIVES
from services.common.errors import ServiceError, invalid

_ENCODINGS = {
    riva_audio.LINEAR_PCM: pb.ENCODING_PCM_S16LE,
    riva_audio.FLAC: pb.ENCODING_FLAC,
    riva_audio.MULAW: pb.ENCODING_MULAW,
    riva_audio.ALAW: pb.ENCODING_ALAW,
    riva_audio.OGGOPUS: pb.ENCODING_OGG_OPUS,
}
_SIGNS = {b"fLaC": riva_audio.FLAC, b"OggS": riva_audio.OGGOPUS}
_WAV = (b"RIFF", b"RF64")
HEAD_BYTES = 4
"""Bytes of the audio that say what it is."""
_ANY_RATE = 16_000  # where the header of a WAV file in front of the samples has the true one
_ANY_LANGUAGE = ("", "multi", "auto")
# What our fields are called in a Riva request; the longest match counts.
_FIELDS = {
    "config.config.audio.encoding": "config.encoding",
    "config.config.audio.sample_rate_hz": "config.sample_rate_hertz",
    "config.config.audio.channels": "config.audio_channel_count",
    "config.config.separate_channels": "config.enable_separate_recognition_per_channel",
    "config.config.language": "config.language_code",
    "config.config.hot_words": "config.speech_contexts",
    "config.config": "config",
    "config.endpointing.stop_silence_ms": "config.endpointing_config.stop_history",
    "config.endpointing.start_speech_ms": "config.endpointing_config.start_history",
    "config.endpointing.threshold": "config.endpointing_config.start_threshold",
    "config.audio.encoding": "config.encoding",
    "config.audio.sample_rate_hz": "config.sample_rate_hertz",
    "config.audio.channels": "config.audio_channel_count",
    "config.separate_channels": "config.enable_separate_recognition_per_channel",
    "config.language": "config.language_code",
    "config.hot_words": "config.speech_contexts",
}


def file_request(request: Any) -> pb.TranscribeRequest:
    """Return the request for a file; a header in the audio goes before what the configuration says.

    Raises INVALID_ARGUMENT that names Riva's field.
    """
    config = _transcription(request.config)
    encoding = _encoding(request.config, request.audio[:HEAD_BYTES])
    headless = encoding in (riva_audio.LINEAR_PCM, riva_audio.MULAW, riva_audio.ALAW)
    if headless and not request.audio.startswith(_WAV):
        config.audio.CopyFrom(_format(request.config, encoding))
    return pb.TranscribeRequest(config=config, audio=request.audio)


def live_request(streaming: Any, head: bytes) -> pb.StreamingTranscribeRequest:
    """Return the first request of a live stream whose audio begins with `head`. Raises as `file_request`."""
    config = _transcription(streaming.config)
    encoding = _encoding(streaming.config, head)
    config.audio.CopyFrom(_format(streaming.config, encoding))
    if head.startswith(_WAV) and not config.audio.sample_rate_hz:
        config.audio.sample_rate_hz = _ANY_RATE
    live = pb.StreamingConfig(config=config, interim_results=streaming.interim_results)
    _endpointing(streaming.config.endpointing_config, live.endpointing)
    return pb.StreamingTranscribeRequest(config=live)


def in_riva_terms(error: ServiceError) -> ServiceError:
    """Return the error with the name that Riva has for the field."""
    if error.field is not None:
        whole = f"{error.field}."
        known = sorted((ours for ours in _FIELDS if whole.startswith((f"{ours}.", f"{ours}["))), key=len)
        if known:
            theirs = _FIELDS[known[-1]] + error.field[len(known[-1]) :]
            error.message, error.field = error.message.replace(error.field, theirs), theirs
    return error


def _transcription(config: Any) -> pb.TranscriptionConfig:
    _refuse(config)
    return pb.TranscriptionConfig(
        model=config.model,
        language="" if config.language_code.lower() in _ANY_LANGUAGE else _language(config.language_code),
        hot_words=[phrase for context in config.speech_contexts for phrase in context.phrases],
        word_timestamps=config.enable_word_time_offsets,
        max_alternatives=_alternatives(config.max_alternatives),
        separate_channels=config.enable_separate_recognition_per_channel,
    )


def _refuse(config: Any) -> None:
    if config.profanity_filter:
        raise invalid("config.profanity_filter", "config.profanity_filter is not possible: text comes as it is said")
    if config.diarization_config.enable_speaker_diarization:
        field = "config.diarization_config.enable_speaker_diarization"
        raise invalid(field, f"{field} is not possible: the models do not tell speakers apart")
    for position, context in enumerate(config.speech_contexts):
        if context.boost < 0:
            field = f"config.speech_contexts[{position}].boost"
            raise invalid(field, f"{field} is {context.boost:g}: words cannot be made less likely")
    for key in config.custom_configuration:
        field = f"config.custom_configuration[{key}]"
        raise invalid(field, f"{field} is not known; there are no custom parameters")


def _language(code: str) -> str:
    found = code_of(code)
    if found is None:
        raise invalid("config.language_code", f"config.language_code: '{code}' is not known; it takes codes as en-US")
    return found


def _alternatives(number: int) -> int:
    if not 0 <= number <= MOST_ALTERNATIVES:
        field = "config.max_alternatives"
        raise invalid(field, f"{field} is {number}; it takes 0 to {MOST_ALTERNATIVES}")
    return number


def _encoding(config: Any, head: bytes) -> int:
    if config.encoding != riva_audio.ENCODING_UNSPECIFIED:
        if config.encoding not in _ENCODINGS:
            raise invalid("config.encoding", f"config.encoding: {config.encoding} is no encoding")
        return int(config.encoding)
    return int(_SIGNS.get(head[:HEAD_BYTES], riva_audio.LINEAR_PCM))


def _format(config: Any, encoding: int) -> pb.AudioFormat:
    for field in ("sample_rate_hertz", "audio_channel_count"):
        if getattr(config, field) < 0:
            raise invalid(f"config.{field}", f"config.{field} is {getattr(config, field)}; it cannot be negative")
    return pb.AudioFormat(
        encoding=_ENCODINGS[encoding],
        sample_rate_hz=config.sample_rate_hertz,
        channels=config.audio_channel_count,
    )


def _endpointing(theirs: Any, ours: pb.Endpointing) -> None:
    """Set what Riva has a name for; how its two stages of ending an utterance differ has no meaning here.

    The earlier one of both ends it: stop_history_eou before stop_history.
    """
    stop = "stop_history_eou" if theirs.HasField("stop_history_eou") else "stop_history"
    for name, field in (("start_history", "start_speech_ms"), (stop, "stop_silence_ms")):
        if theirs.HasField(name):
            value = getattr(theirs, name)
            if value < 0:
                raise invalid(f"config.endpointing_config.{name}", f"config.endpointing_config.{name} is negative")
            setattr(ours, field, value)
    if theirs.HasField("start_threshold"):
        ours.threshold = theirs.start_threshold
