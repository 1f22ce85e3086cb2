"""flotilla.asr.v1: results of live streams to messages."""

import math
from collections.abc import Sequence

from flotilla.asr.v1 import asr_pb2 as pb

from services.asr import messages
from services.asr.live.endpointing import Ended, Started
from services.asr.live.utterance import Text
from services.asr.vocabulary import Word, text_of


def event(change: Started | Ended, seconds: float, channel: int) -> pb.SpeechEvent:
    """Return the message of a change between speech and silence."""
    started = isinstance(change, Started)
    kind = pb.SpeechEvent.KIND_SPEECH_STARTED if started else pb.SpeechEvent.KIND_SPEECH_ENDED
    return pb.SpeechEvent(kind=kind, time=seconds, channel=channel)


def interim(segment: pb.Segment, words: Sequence[Word], stability: float, *, with_words: bool) -> pb.Hypothesis:
    """Return the message of what an utterance says so far; `segment` has its place and begin."""
    segment.text, segment.end = text_of(words), words[-1].end
    segment.average_logprob = sum(math.log(max(word.confidence, 1e-6)) for word in words) / len(words)
    if with_words:
        segment.words.extend(messages.word(word) for word in words)
    return pb.Hypothesis(is_final=False, stability=stability, segment=segment)


def final(segment: pb.Segment, text: Text, *, with_words: bool) -> pb.Hypothesis:
    """Return the message of what an utterance says; `segment` has its place and times."""
    segment.text = text.text
    segment.token_ids.extend(text.token_ids)
    segment.temperature, segment.average_logprob = text.temperature, text.average_logprob
    segment.compression_ratio, segment.no_speech_probability = text.compression_ratio, text.no_speech_probability
    segment.alternatives.extend(pb.Alternative(text=other, confidence=sure) for other, sure in text.alternatives)
    if with_words:
        segment.words.extend(messages.word(word) for word in text.words)
    return pb.Hypothesis(is_final=True, stability=1.0, segment=segment)
