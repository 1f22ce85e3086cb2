"""The recogniser of one channel over a reader that knows what is said when."""

import asyncio

import numpy as np
import pytest

from services.asr.live.channel import LONGEST, MOST_HELD, Channel, ChannelOptions
from services.asr.live.endpointing import EndpointingOptions
from services.asr.live.thinning import Thinning
from services.asr.live.utterance import Text, moved
from services.asr.sound.audio import SAMPLE_RATE
from services.asr.vad import FRAME
from services.asr.vocabulary import Word, text_of
from services.common.load import Load
from tests.waiting import turns, until

WORD = 10 * FRAME  # samples of a spoken word: 0.32 s


class Reader:
    """Sample n of the audio is n + 1, silence is 0; so a window tells its place. Word n is spoken at n * WORD."""

    def __init__(self) -> None:
        self.interims: list[int] = []
        self.finals: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def _words(self, samples: np.ndarray) -> list[Word]:
        spoken = samples[samples > 0].astype(int) - 1
        first = next((n for n, value in enumerate(samples) if value > 0), 0)
        found, counts = np.unique(spoken // WORD, return_counts=True)
        numbers = [int(n) for n, count in zip(found, counts, strict=True) if count > 1000]  # more than an edge
        offset = (int(spoken[0]) - first) if len(spoken) else 0
        return [
            Word(f"w{n}.", (n * WORD - offset) / SAMPLE_RATE, ((n + 1) * WORD - offset - 400) / SAMPLE_RATE, 0.9)
            for n in numbers
        ]

    async def interim(self, samples, before):
        self.interims.append(len(samples))
        await self.gate.wait()
        return self._words(samples)

    async def final(self, samples, before):
        self.finals.append(len(samples))
        await self.gate.wait()
        words = self._words(samples)
        return Text(text=text_of(words), words=tuple(words), token_ids=tuple(range(len(words))))

    def joined(self, words, rest):
        return Text(text=text_of([*words, *rest.words]), words=(*words, *rest.words))


class Heard:
    def __init__(self) -> None:
        self.events, self.interims, self.finals, self.skips = [], [], [], 0

    def spoken(self, change, seconds):
        self.events.append((type(change).__name__, round(seconds, 2)))

    def interim(self, utterance, start, words, stability):
        self.interims.append((utterance, text_of(words), stability))

    def final(self, utterance, start, end, text):
        self.finals.append((utterance, start, end, text))

    def skipped(self):
        self.skips += 1


class Speaker:
    """Speaks words and silence to a channel, frame by frame of the VAD."""

    def __init__(self, interims: bool = True) -> None:
        self.reader, self.heard = Reader(), Heard()
        options = ChannelOptions(EndpointingOptions(stop_silence_ms=480), interims)
        self.channel = Channel(options, self.reader, self.heard, Thinning(Load(1)))
        self.running = asyncio.create_task(self.channel.run())
        self.at = 0

    async def say(self, frames: int, speech: bool = True, piece: int = 3) -> None:
        for part in _parts(frames, piece):
            length = len(part) * FRAME
            samples = np.arange(self.at, self.at + length, dtype=np.float32) + 1 if speech else np.zeros(length)
            self.at += length
            await self.channel.hear(
                samples.astype(np.float32), np.full(len(part), 0.95 if speech else 0.01, np.float32)
            )
            await turns(8)

    async def stop(self) -> list[str]:
        self.channel.finish()
        await self.running
        return [text.text for *_, text in self.heard.finals]


def _parts(frames: int, piece: int) -> list[range]:
    return [range(start, min(start + piece, frames)) for start in range(0, frames, piece)]


def said(first: int, last: int) -> str:
    return " ".join(f"w{n}." for n in range(first, last))


async def test_an_utterance_is_final_when_it_has_ended():
    speaker = Speaker()
    await speaker.say(20, speech=False)
    await speaker.say(40)
    await speaker.say(20, speech=False)
    await until(lambda: speaker.heard.finals, "the final result before the end of the audio")
    assert await speaker.stop() == [said(2, 6)]
    assert [name for name, _ in speaker.heard.events] == ["Started", "Ended"]
    (_, start, end, text) = speaker.heard.finals[0]
    assert start < 0.64 < end <= 1.93 and text.words[0].start == pytest.approx(0.64)


async def test_the_reading_in_the_pause_is_the_final_one():
    speaker = Speaker(interims=False)
    await speaker.say(40)
    await speaker.say(30, speech=False)
    assert await speaker.stop() == [said(0, 4)]
    assert len(speaker.reader.finals) == 1


async def test_interims_grow_and_never_take_back_what_is_committed():
    speaker = Speaker()
    for _ in range(12):
        await speaker.say(10)
        speaker.channel._pace._due = 0.0
    await speaker.stop()
    assert len(speaker.heard.interims) >= 3
    stabilities = [stability for *_, stability in speaker.heard.interims]
    assert stabilities[0] == 0.0 and max(stabilities) > 0.5
    assert all(utterance == 0 for utterance, *_ in speaker.heard.interims)


async def test_half_close_gives_the_final_of_what_is_still_spoken():
    speaker = Speaker(interims=False)
    await speaker.say(30)
    assert await speaker.stop() == [said(0, 3)]


async def test_a_reading_under_way_gives_way_to_the_final_one():
    speaker = Speaker()
    speaker.reader.gate.clear()
    await speaker.say(40)
    assert speaker.reader.interims
    speaker.channel.finish()
    await until(lambda: speaker.reader.finals, "the final reading")
    speaker.reader.gate.set()
    await speaker.running
    assert [text.text for *_, text in speaker.heard.finals] == [said(0, 4)]
    assert not speaker.heard.interims


async def test_a_long_utterance_is_divided_between_words_and_loses_none():
    speaker = Speaker(interims=False)
    frames = 3 * LONGEST // FRAME
    await speaker.say(frames, piece=30)
    texts = await speaker.stop()
    assert len(texts) >= 3
    assert " ".join(texts) == said(0, -(-frames // 10))
    assert [utterance for utterance, *_ in speaker.heard.finals] == list(range(len(texts)))
    assert all(end - start <= 26 for _, start, end, _ in speaker.heard.finals)


async def test_long_speech_with_interims_reads_short_windows():
    speaker = Speaker()
    for _ in range(120):
        await speaker.say(10)
        speaker.channel._pace._due = 0.0
    texts = await speaker.stop()
    assert " ".join(texts) == said(0, 120)
    assert max(speaker.reader.interims) < 16 * SAMPLE_RATE


async def test_input_waits_while_too_much_is_unread():
    speaker = Speaker(interims=False)
    speaker.reader.gate.clear()
    talking = asyncio.create_task(speaker.say(5 * LONGEST // FRAME, piece=100))
    await until(lambda: speaker.at > MOST_HELD, "more audio than is held")
    held = speaker.at
    await turns(50)
    assert speaker.at == held and held <= MOST_HELD + 100 * FRAME
    speaker.reader.gate.set()
    await talking
    assert " ".join(await speaker.stop()) == said(0, -(-(5 * LONGEST // FRAME) // 10))


async def test_silence_gives_nothing():
    speaker = Speaker()
    await speaker.say(300, speech=False)
    assert await speaker.stop() == []
    assert speaker.heard.events == [] and speaker.reader.finals == speaker.reader.interims == []


async def test_what_the_reader_fails_with_ends_the_channel():
    speaker = Speaker()

    async def fail(samples, before):
        raise ConnectionError

    speaker.reader.interim = speaker.reader.final = fail
    await speaker.say(40)
    with pytest.raises(ConnectionError):
        await speaker.running


def test_words_move_in_time():
    assert moved([Word("a", 1.0, 2.0, 0.5)], 2.5) == [Word("a", 3.5, 4.5, 0.5)]
