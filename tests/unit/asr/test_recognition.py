import numpy as np
import pytest

from services.asr.options import Options
from services.asr.recognition import LADDER, Turn
from services.asr.vocabulary import Vocabulary
from services.common.errors import Kind, ServiceError
from tests.unit.asr.fakes import Engine, languages, reading, recognition

SOUND = np.random.default_rng(0).normal(0, 0.1, 4 * 16_000).astype("f4")
LOOP = " again and again" * 30
ENGLISH = Options("base", language="en")


@pytest.fixture
def say(vocabulary, telemetry):
    """Returns a recognition over an engine that gives each of the readings in turn, the last one for ever."""

    def make(*readings, model="base", beam_size=1, words=vocabulary):
        left = list(readings)
        engine = Engine(lambda window: left.pop(0) if len(left) > 1 else left[0])
        return engine, recognition(engine, words, telemetry, model, beam_size)

    return make


def said(vocabulary: Vocabulary, *texts: str, **more):
    return reading(vocabulary, *texts, **more)


async def test_segments_come_from_time_stamps(say, vocabulary):
    _, model = say(said(vocabulary, "|0.5| One.|1.5||2.0| Two.|3.5|"))
    passage = await model.read(SOUND, ENGLISH)
    assert [(segment.start, segment.end, segment.text) for segment in passage.segments] == [
        (0.5, 1.5, " One."),
        (2.0, 3.5, " Two."),
    ]
    assert passage.text == "One. Two."
    assert passage.segments[0].average_logprob == pytest.approx(-0.2)


async def test_a_window_ends_in_silence_and_is_not_too_short(say, vocabulary):
    engine, model = say(said(vocabulary, " a"))
    await model.read(SOUND, ENGLISH)
    await model.read(np.concatenate([SOUND] * 7), ENGLISH)
    short, long = engine.windows
    assert (short.mel.shape, short.frames) == ((80, 1000), 400)
    assert (long.mel.shape, long.frames) == ((80, 2900), 2800)
    assert long.mel[:, 2850:].max() <= long.mel.min() + 1e-6


async def test_what_repeats_itself_is_read_again_warmer(say, vocabulary, telemetry):
    engine, model = say(said(vocabulary, LOOP), said(vocabulary, LOOP), said(vocabulary, " Fine."))
    (segment,) = (await model.read(SOUND, ENGLISH)).segments
    assert (segment.text, segment.temperature) == (" Fine.", 0.4)
    assert [window.temperature for window in engine.windows] == [0.0, 0.2, 0.4]
    assert telemetry.value("flotilla_asr_fallbacks_total", model="base", reason="repetition") == 2


async def test_what_is_doubted_at_every_temperature_is_believed_where_somebody_speaks(say, vocabulary):
    scores = (-1.5, -1.2, -1.1, -1.4, -1.6, -1.9)
    readings = [said(vocabulary, f" Text {score}", scores=[score], no_speech=0.1) for score in scores]
    engine, model = say(*readings)
    (segment,) = (await model.read(SOUND, ENGLISH)).segments
    assert segment.text == " Text -1.1"
    assert [window.temperature for window in engine.windows] == list(LADDER)


@pytest.mark.parametrize(
    "case",
    [(" you", -0.6, 0.9), (" Thank you.", -1.2, 0.65), (LOOP, -0.6, 0.1), (" Hm", -1.3, 0.4)],
)
async def test_what_looks_invented_is_dropped(say, vocabulary, telemetry, case):
    text, score, no_speech = case
    _, model = say(said(vocabulary, text, scores=[score], no_speech=no_speech))
    assert (await model.read(SOUND, ENGLISH)).segments == ()
    reasons = ("no_speech", "invented")
    assert sum(telemetry.value("flotilla_asr_windows_dropped_total", model="base", reason=why) for why in reasons) == 1


async def test_a_temperature_of_the_caller_is_kept(say, vocabulary):
    engine, model = say(said(vocabulary, LOOP))
    passage = await model.read(SOUND, Options("base", language="en", temperature=0.7))
    assert passage.segments[0].temperature == 0.7
    assert len(engine.windows) == 1


async def test_segments_behind_the_sound_are_left_out(say, vocabulary):
    _, model = say(said(vocabulary, "|0.0| One.|3.9||3.9| One.|7.8||8.0| One."))
    assert [segment.text for segment in (await model.read(SOUND, ENGLISH)).segments] == [" One."]


async def test_segments_where_nobody_speaks_are_left_out(say, vocabulary):
    _, model = say(said(vocabulary, "|0.0| One.|1.0||2.5| Two.|3.4|"))
    passage = await model.read(SOUND, ENGLISH, speech=[(0.1, 0.9)])
    assert [segment.text for segment in passage.segments] == [" One."]
    assert passage.segments[0].end <= 1.1


async def test_segments_of_signs_alone_are_left_out(say, vocabulary):
    _, model = say(said(vocabulary, "|0.0| ...|1.0||1.0| Two.|2.0|"))
    assert (await model.read(SOUND, ENGLISH)).text == "Two."


async def test_words_lie_in_their_segments_and_never_go_back(say, vocabulary):
    _, model = say(said(vocabulary, "|0.0| One two.|1.0||1.2| Three.|2.0|", words=True))
    options = Options("base", language="en", word_timestamps=True)
    passage = await model.read(SOUND, options)
    assert [[word.text for word in segment.words] for segment in passage.segments] == [["One", "two."], ["Three."]]
    previous = 0.0
    for segment in passage.segments:
        for word in segment.words:
            assert max(previous, segment.start) <= word.start <= word.end <= segment.end
            previous = word.end


async def test_alternatives_differ_by_more_than_signs(say, vocabulary):
    texts = (" Hello there.", " hello there", " Yellow there.", " Hello, there!", " Fellow there.")
    engine, model = say(said(vocabulary, *texts))
    (segment,) = (await model.read(SOUND, Options("base", language="en", alternatives=3))).segments
    assert [other.text for other in segment.alternatives] == [" Yellow there.", " Fellow there."]
    assert all(0 < other.confidence < 1 for other in segment.alternatives)
    (window,) = engine.windows
    assert window.alternatives == 5
    assert window.prompt[-1] == vocabulary.prompt("en", timestamps=False)[-1]


async def test_prompt_and_hot_words_come_first(say, vocabulary):
    engine, model = say(said(vocabulary, " a"))
    options = Options("base", language="de", translate=True, prompt="Before.", hot_words=("Ada", "Bob"))
    await model.read(SOUND, options, before=vocabulary.encode(" Last."))
    (window,) = engine.windows
    assert vocabulary.text(window.prompt) == " Ada, Bob Before. Last."
    assert list(window.prompt[-3:]) == vocabulary.prompt("de", translate=True)


async def test_a_long_prompt_leaves_room_for_the_text(say, vocabulary):
    engine, model = say(said(vocabulary, " a"))
    await model.read(SOUND, Options("base", language="en", prompt="word " * 1000, hot_words=("long",) * 100))
    (window,) = engine.windows
    assert len(window.prompt) + window.max_new_tokens <= 448
    assert window.max_new_tokens >= 60  # for 4 s


async def test_interim_is_read_once_and_greedily(say, vocabulary):
    engine, model = say(said(vocabulary, LOOP, words=True), beam_size=5)
    interim = await model.interim(SOUND, ENGLISH)
    assert interim.words[0].text == "again"
    assert all(word.end <= 4.0 for word in interim.words)
    (window,) = engine.windows
    assert (window.beam_size, window.temperature, window.word_times) == (1, 0.0, True)


async def test_languages_of_several_windows_are_weighed_by_their_length(say):
    engine, model = say(languages(0.1, 0.9, 0.0), languages(0.8, 0.1, 0.1))
    assert await model.language_of(SOUND, np.tile(SOUND, 3)) == ("en", pytest.approx((0.1 + 3 * 0.8) / 4))
    assert all(window.detect_language for window in engine.windows)


async def test_the_language_is_found_where_it_is_not_given(say, vocabulary):
    engine, model = say(languages(0.1, 0.8, 0.1), said(vocabulary, " ja"))
    assert (await model.read(SOUND, Options("base"))).language == "de"
    assert list(engine.windows[1].prompt) == vocabulary.prompt("de")


async def test_an_english_model_is_not_asked_for_the_language(say, english):
    engine, model = say(said(english, " a"), words=english)
    assert await model.language_of(SOUND) == ("en", 1.0)
    assert engine.windows == []


async def test_a_fault_of_the_engine_is_passed_on(vocabulary, telemetry):
    def fail(_):
        raise ServiceError(Kind.UNAVAILABLE, "gone")

    with pytest.raises(ServiceError, match="gone"):
        await recognition(Engine(fail), vocabulary, telemetry).read(SOUND, ENGLISH, Turn(1, 2))
