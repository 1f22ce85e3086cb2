"""flotilla.asr.v1: what is wanted of some audio, checked field by field. Nothing here hears anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from flotilla.asr.v1 import asr_pb2 as pb

from services.asr.languages import code_of
from services.common.errors import Kind, ServiceError, invalid

MOST_ALTERNATIVES = 5
MOST_HOT_WORDS, MOST_HOT_WORD_CHARACTERS = 100, 100
_PROMPT_CHARACTERS = 8192  # many times what 223 tokens can hold
DEFAULT_SPEECH_THRESHOLD = 0.5
_TASKS = {pb.TASK_UNSPECIFIED: False, pb.TASK_TRANSCRIBE: False, pb.TASK_TRANSLATE: True}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the service tells of a model."""

    id: str
    languages: tuple[str, ...]
    """ISO 639-1 codes."""
    translates: bool
    triton_model: str
    license: str
    profile: str


@dataclass(frozen=True, slots=True)
class Options:
    """The parameters of a call."""

    model: str
    """Public model id."""
    language: str | None = None
    """ISO 639-1 code; None: to be detected."""
    translate: bool = False
    prompt: str = ""
    hot_words: tuple[str, ...] = ()
    temperature: float | None = None
    """None: 0, and higher where the result looks wrong."""
    word_timestamps: bool = False
    alternatives: int = 1
    separate_channels: bool = False
    speech_threshold: float = DEFAULT_SPEECH_THRESHOLD


def options_of(config: pb.TranscriptionConfig, models: Sequence[ServedModel], field: str = "config") -> Options:
    """Return the options of a configuration that is in order; the first of `models` is the default.

    Raises INVALID_ARGUMENT that names the field, which is below `field`, and NOT_FOUND for an unknown model.
    """
    model = _model(config.model, models, f"{field}.model")
    if config.task not in _TASKS:
        raise invalid(f"{field}.task", f"{field}.task is {config.task}; it takes transcribe (1) and translate (2)")
    translate = _TASKS[config.task]
    if translate and not model.translates:
        raise invalid(f"{field}.task", f"{field}.task: model '{model.id}' does not translate; {_able(models)}")
    return Options(
        model=model.id,
        language=_language(config.language, model, models, f"{field}.language"),
        translate=translate,
        prompt=config.prompt[-_PROMPT_CHARACTERS:],
        hot_words=_hot_words(config.hot_words, f"{field}.hot_words"),
        temperature=_temperature(config, f"{field}.temperature"),
        word_timestamps=config.word_timestamps,
        alternatives=_alternatives(config.max_alternatives, f"{field}.max_alternatives"),
        separate_channels=config.separate_channels,
        speech_threshold=_threshold(config, f"{field}.speech_threshold"),
    )


def _model(model_id: str, models: Sequence[ServedModel], field: str) -> ServedModel:
    for model in models:
        if model_id in ("", model.id):
            return model
    loaded = ", ".join(model.id for model in models)
    message = f"model '{model_id}' does not exist; loaded: {loaded}"
    raise ServiceError(Kind.NOT_FOUND, message, field=field, code="model_not_found")


def _able(models: Sequence[ServedModel]) -> str:
    return f"models that do: {', '.join(model.id for model in models if model.translates) or 'none'}"


def _language(language: str, model: ServedModel, models: Sequence[ServedModel], field: str) -> str | None:
    if not language:
        return None if len(model.languages) > 1 else model.languages[0]
    code = code_of(language)
    if code in model.languages:
        return code
    if code is None:
        raise invalid(
            field, f"{field}: '{language}' is not known; it takes an ISO 639-1 code (de) or an English name (german)"
        )
    others = ", ".join(other.id for other in models if code in other.languages) or "none"
    raise invalid(field, f"{field}: model '{model.id}' does not understand '{language}'; models that do: {others}")


def _hot_words(words: Sequence[str], field: str) -> tuple[str, ...]:
    if len(words) > MOST_HOT_WORDS:
        raise invalid(field, f"{field} has {len(words)} items; it takes at most {MOST_HOT_WORDS}")
    for position, word in enumerate(words):
        if not 1 <= len(word.strip()) <= MOST_HOT_WORD_CHARACTERS:
            name = f"{field}[{position}]"
            raise invalid(name, f"{name} has {len(word)} characters; it takes 1 to {MOST_HOT_WORD_CHARACTERS}")
    return tuple(word.strip() for word in words)


def _temperature(config: pb.TranscriptionConfig, field: str) -> float | None:
    if not config.HasField("temperature"):
        return None
    if not 0 <= config.temperature <= 1:  # NaN as well
        raise invalid(field, f"{field} is {config.temperature:g}; it takes 0 to 1")
    return config.temperature


def _alternatives(number: int, field: str) -> int:
    if number > MOST_ALTERNATIVES:
        raise invalid(field, f"{field} is {number}; it takes 1 to {MOST_ALTERNATIVES}")
    return number or 1


def _threshold(config: pb.TranscriptionConfig, field: str) -> float:
    if not config.HasField("speech_threshold"):
        return DEFAULT_SPEECH_THRESHOLD
    value = config.speech_threshold
    if not 0 < value < 1:  # NaN as well
        raise invalid(field, f"{field} is {value:g}; it must be above 0 and below 1")
    return value
