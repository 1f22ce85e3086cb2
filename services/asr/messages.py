"""flotilla.asr.v1: formats out of messages, results as messages."""

from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.files import Event, Summary
from services.asr.options import ServedModel
from services.asr.passage import Alternative, Segment
from services.asr.sound.audio import AudioFormat, AudioLimits, Encoding, FormatFields, audio_format
from services.asr.vocabulary import Word
from services.common.errors import invalid

_ENCODINGS = {
    pb.ENCODING_PCM_S16LE: Encoding.PCM_S16LE,
    pb.ENCODING_PCM_U8: Encoding.PCM_U8,
    pb.ENCODING_MULAW: Encoding.MULAW,
    pb.ENCODING_ALAW: Encoding.ALAW,
    pb.ENCODING_FLAC: Encoding.FLAC,
    pb.ENCODING_OGG_OPUS: Encoding.OGG_OPUS,
}


def file_format(audio: pb.AudioFormat, limits: AudioLimits) -> AudioFormat | None:
    """Return the format of samples without a header, None for a file. Raises INVALID_ARGUMENT that names the field."""
    if audio.encoding == pb.ENCODING_UNSPECIFIED:
        return None
    return named_format(audio, limits, FormatFields())


def named_format(audio: pb.AudioFormat, limits: AudioLimits, fields: FormatFields) -> AudioFormat:
    """Return a format that must be named. Raises INVALID_ARGUMENT with one of `fields`."""
    encoding = _ENCODINGS.get(audio.encoding)
    if encoding is None and audio.encoding != pb.ENCODING_UNSPECIFIED:
        raise invalid(fields.encoding, f"{fields.encoding}: {audio.encoding} is no encoding; it takes 1 to 6")
    return audio_format(encoding, audio.sample_rate_hz, audio.channels, limits, fields)


def segment(value: Segment, index: int) -> pb.Segment:
    """Return a segment."""
    return pb.Segment(
        index=index,
        channel=value.channel,
        start=value.start,
        end=value.end,
        text=value.text,
        words=map(word, value.words),
        token_ids=value.ids,
        temperature=value.temperature,
        average_logprob=value.average_logprob,
        compression_ratio=value.compression_ratio,
        no_speech_probability=value.no_speech_probability,
        alternatives=map(alternative, value.alternatives),
        window_start=value.window_start,
    )


def word(value: Word) -> pb.Word:
    """Return a word."""
    return pb.Word(text=value.text, start=value.start, end=value.end, confidence=value.confidence)


def alternative(value: Alternative) -> pb.Alternative:
    """Return another text."""
    return pb.Alternative(text=value.text, confidence=value.confidence)


def summary(value: Summary) -> pb.Summary:
    """Return the end of a transcript."""
    return pb.Summary(
        model=value.model,
        language=value.language,
        language_probability=value.language_probability,
        duration=value.duration,
        usage=pb.Usage(
            audio_seconds=value.audio_seconds, speech_seconds=value.speech_seconds, output_tokens=value.output_tokens
        ),
    )


def response(event: Event, index: int) -> pb.TranscribeFileResponse:
    """Return what happened to a file; `index` is that of its segment."""
    message = pb.TranscribeFileResponse(
        progress=pb.Progress(done_seconds=event.done_seconds, total_seconds=event.total_seconds)
    )
    if event.segment is not None:
        message.segment.CopyFrom(segment(event.segment, index))
    if event.summary is not None:
        message.summary.CopyFrom(summary(event.summary))
    return message


def model(served: ServedModel) -> pb.Model:
    """Return the description of a model."""
    return pb.Model(
        id=served.id,
        languages=served.languages,
        translates=served.translates,
        triton_model=served.triton_model,
        license=served.license,
        profile=served.profile,
    )
