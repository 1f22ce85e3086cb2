import math

import pytest
from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.options import Options, ServedModel, options_of
from services.common.errors import Kind, ServiceError

BASE = ServedModel("base", ("en", "de", "zh"), True, "base", "MIT", "cpu-int8")
TINY = ServedModel("tiny.en", ("en",), False, "tiny_en", "MIT", "cpu-int8")


def of(**fields: object) -> Options:
    return options_of(pb.TranscriptionConfig(**fields), (BASE, TINY))


def test_defaults() -> None:
    assert of() == Options(model="base")
    assert of(model="tiny.en") == Options(model="tiny.en", language="en")


def test_everything() -> None:
    options = of(
        model="base",
        language="German",
        task=pb.TASK_TRANSLATE,
        prompt="Before.",
        hot_words=["Flotilla ", "Triton"],
        temperature=0.5,
        word_timestamps=True,
        max_alternatives=5,
        separate_channels=True,
        speech_threshold=0.25,
    )
    assert options == Options("base", "de", True, "Before.", ("Flotilla", "Triton"), 0.5, True, 5, True, 0.25)


def test_temperature_zero_is_not_unset() -> None:
    assert of(temperature=0).temperature == 0
    assert of().temperature is None


def test_a_long_prompt_is_cut_to_its_end() -> None:
    assert of(prompt="x" * 100_000 + "end").prompt.endswith("xend")
    assert len(of(prompt="x" * 100_000).prompt) < 10_000


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"language": "klingon"}, "config.language", "ISO 639-1"),
        ({"language": "fr"}, "config.language", "does not understand"),
        ({"model": "tiny.en", "language": "de"}, "config.language", "models that do: base"),
        ({"model": "tiny.en", "task": pb.TASK_TRANSLATE}, "config.task", "models that do: base"),
        ({"task": 7}, "config.task", "translate"),
        ({"temperature": math.nan}, "config.temperature", "0 to 1"),
        ({"temperature": -0.1}, "config.temperature", "0 to 1"),
        ({"temperature": 1.1}, "config.temperature", "0 to 1"),
        ({"max_alternatives": 6}, "config.max_alternatives", "1 to 5"),
        ({"hot_words": ["word"] * 101}, "config.hot_words", "at most 100"),
        ({"hot_words": ["word", " "]}, "config.hot_words[1]", "1 to 100"),
        ({"hot_words": ["x" * 101]}, "config.hot_words[0]", "1 to 100"),
        ({"speech_threshold": 0.0}, "config.speech_threshold", "above 0"),
        ({"speech_threshold": 1.0}, "config.speech_threshold", "below 1"),
        ({"speech_threshold": math.nan}, "config.speech_threshold", "above 0"),
        ({"speech_threshold": math.inf}, "config.speech_threshold", "below 1"),
    ],
)
def test_faults_name_field_and_limit(fields: dict[str, object], field: str, says: str) -> None:
    with pytest.raises(ServiceError) as caught:
        of(**fields)
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, field)
    assert says in caught.value.message


def test_an_unknown_model_is_told_what_is_loaded() -> None:
    with pytest.raises(ServiceError) as caught:
        of(model="large")
    assert (caught.value.kind, caught.value.field) == (Kind.NOT_FOUND, "config.model")
    assert "base, tiny.en" in caught.value.message


def test_the_field_may_stand_deeper() -> None:
    with pytest.raises(ServiceError) as caught:
        options_of(pb.TranscriptionConfig(max_alternatives=6), (BASE,), "config.config")
    assert caught.value.field == "config.config.max_alternatives"
