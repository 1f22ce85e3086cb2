"""nvidia.riva.asr: results of flotilla.asr.v1 as a Riva client reads them.

Times are milliseconds, channels count from 1, and a final text ends with a space: clients put them one after another.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from flotilla.asr.v1 import asr_pb2 as pb
from riva.client.proto import riva_asr_pb2 as riva


def offline(response: pb.TranscribeResponse) -> list[Any]:
    """Return the results of a file: riva.SpeechRecognitionResult, one for each segment."""
    summary = response.summary
    return [
        riva.SpeechRecognitionResult(
            alternatives=_alternatives(segment, summary.language, end=" "),
            channel_tag=segment.channel + 1,
            audio_processed=summary.duration,
        )
        for segment in response.segments
    ]


def streaming(hypothesis: pb.Hypothesis, received_seconds: float, language: str) -> Any:
    """Return a result of a live stream: riva.StreamingRecognitionResult."""
    segment = hypothesis.segment
    return riva.StreamingRecognitionResult(
        alternatives=_alternatives(segment, language, end=" " if hypothesis.is_final else ""),
        is_final=hypothesis.is_final,
        stability=hypothesis.stability,
        channel_tag=segment.channel + 1,
        audio_processed=received_seconds,
    )


def model_config(model: pb.Model) -> Any:
    """Return what a model can do: riva.RivaSpeechRecognitionConfigResponse.Config."""
    return riva.RivaSpeechRecognitionConfigResponse.Config(
        model_name=model.id,
        parameters={
            "language_code": ",".join(model.languages),
            "sample_rate": "16000",
            "streaming": "true",
            "offline": "true",
            "type": "all",
            "translates": str(model.translates).lower(),
            "license": model.license,
        },
    )


def _alternatives(segment: pb.Segment, language: str, end: str) -> Sequence[Any]:
    codes = [language] if language else []
    confidence = math.exp(min(0.0, segment.average_logprob))
    best = riva.SpeechRecognitionAlternative(
        transcript=segment.text.strip() + end,
        confidence=confidence,
        words=_words(segment.words, language),
        language_code=codes,
    )
    others = (
        riva.SpeechRecognitionAlternative(
            transcript=other.text.strip() + end, confidence=other.confidence, language_code=codes
        )
        for other in segment.alternatives
    )
    return [best, *others]


def _words(words: Iterable[pb.Word], language: str) -> Iterable[Any]:
    return (
        riva.WordInfo(
            start_time=round(word.start * 1000),
            end_time=round(word.end * 1000),
            word=word.text,
            confidence=word.confidence,
            language_code=language,
        )
        for word in words
    )
