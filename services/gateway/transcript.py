"""A transcript in OpenAI's shapes: whole, or as events. It must not know how it was asked for."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import orjson
from flotilla.asr.v1 import asr_pb2 as pb
from starlette.responses import Response

from services.common.languages import NAMES
from services.gateway.schemas.audio import AudioRequest
from services.gateway.sse import Events
from services.gateway.subtitles import SRT_TYPE, VTT_TYPE, Cue, srt, vtt

Task = Literal["transcribe", "translate"]
POSITIONS_PER_SECOND = 50
"""What Whisper's encoder makes of a second of audio: the tokens of a model that takes audio as tokens."""


class Transcript:
    """Gathers a transcript."""

    def __init__(self) -> None:
        self._segments: list[pb.Segment] = []
        self._summary = pb.Summary()
        self.text = ""
        """The whole text so far."""
        self._space = ""
        """What stands between it and what comes next."""

    def add(self, message: pb.TranscribeFileResponse) -> str:
        """Take a message of the service and return what it adds to the text."""
        if message.HasField("summary"):
            self._summary = message.summary
            return ""
        self._segments.append(message.segment)
        coming = self._space + message.segment.text if self.text else message.segment.text.lstrip()
        more = coming.rstrip()
        self._space = coming[len(more) :]
        self.text += more
        return more

    def response(self, body: AudioRequest, task: Task) -> Response:
        """Return it in the format that was asked for."""
        match body.response_format:
            case "text":
                return Response(f"{self.text}\n", media_type="text/plain")
            case "srt":
                return Response(srt(self._cues()), media_type=SRT_TYPE)
            case "vtt":
                return Response(vtt(self._cues()), media_type=VTT_TYPE)
            case "verbose_json":
                return _json(self._verbose(body.granularities, task))
            case "json":
                return _json({"text": self.text, "usage": self._usage()})

    def done(self) -> dict[str, Any]:
        """Return the event that ends a stream.

        OpenAI's clients take only tokens as the usage of a stream; it has the seconds too.
        """
        heard = round(self._summary.duration * POSITIONS_PER_SECOND)
        said = self._summary.usage.output_tokens
        usage = {
            "type": "tokens",
            "input_tokens": heard,
            "input_token_details": {"audio_tokens": heard, "text_tokens": 0},
            "output_tokens": said,
            "total_tokens": heard + said,
            "seconds": _seconds(self._summary.duration),
        }
        return {"type": "transcript.text.done", "text": self.text, "usage": usage}

    def _cues(self) -> list[Cue]:
        return [Cue(segment.start, segment.end, segment.text) for segment in self._segments]

    def _usage(self) -> dict[str, Any]:
        return {"type": "duration", "seconds": _seconds(self._summary.duration)}

    def _verbose(self, granularities: frozenset[str], task: Task) -> dict[str, Any]:
        spoken = NAMES.get(self._summary.language, self._summary.language)
        body: dict[str, Any] = {
            "task": task,
            "language": "english" if task == "translate" else spoken,
            "duration": _seconds(self._summary.duration),
            "text": self.text,
        }
        if "segment" in granularities:
            body["segments"] = [_segment(i, segment) for i, segment in enumerate(self._segments)]
        if "word" in granularities:
            body["words"] = _words(self._segments)
        return {**body, "usage": self._usage()}


class TranscriptEvents(Events):
    """Writes a transcript as OpenAI's `transcript.text` events."""

    def __init__(self) -> None:
        self._transcript = Transcript()

    def of(self, _: int, message: pb.TranscribeFileResponse) -> bytes:
        """Return the event of a message: what it adds to the text, if anything."""
        delta = self._transcript.add(message)
        return _event({"type": "transcript.text.delta", "delta": delta}) if delta else b""

    def end(self) -> bytes:
        """Return the event with the whole text and the usage."""
        return _event(self._transcript.done())


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(body)


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _segment(number: int, segment: pb.Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": round(segment.window_start * 100),
        "start": _seconds(segment.start),
        "end": _seconds(segment.end),
        "text": segment.text,
        "tokens": list(segment.token_ids),
        # A float of the service is written with the digits that float32 has.
        "temperature": np.float32(segment.temperature),
        "avg_logprob": np.float32(segment.average_logprob),
        "compression_ratio": np.float32(segment.compression_ratio),
        "no_speech_prob": np.float32(segment.no_speech_probability),
    }


def _words(segments: Sequence[pb.Segment]) -> list[dict[str, Any]]:
    return [
        {"word": word.text.strip(), "start": _seconds(word.start), "end": _seconds(word.end)}
        for segment in segments
        for word in segment.words
    ]


def _seconds(value: float) -> float:
    return round(value, 3)
