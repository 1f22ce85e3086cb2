"""OpenAI's audio routes, and our parameters: https://platform.openai.com/docs/api-reference/audio."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from fastapi import UploadFile
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from services.gateway.schemas.common import ModelId, RequestBody, Text, fault, wrong

MOST_HOT_WORDS, LONGEST_HOT_WORD = 100, 100  # of the service


def _at_most(characters: int) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) > characters:
            raise wrong(f"has {len(value)} characters; it takes up to {characters}")
        return value

    return AfterValidator(check)


def _read_strategy(value: Any) -> Any:
    if value == "auto":
        return None
    if not isinstance(value, dict):
        raise wrong("must be 'auto', or an object with type and threshold")
    return value


Word = Annotated[Text, _at_most(LONGEST_HOT_WORD)]
Granularity = Literal["word", "segment"]
Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


class ServerVad(RequestBody):
    """How speech is told from silence."""

    type: Literal["server_vad"]
    threshold: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """How sure it must be that there is speech, above 0 and below 1. Default: 0.5."""
    prefix_padding_ms: Milliseconds | None = None
    """Accepted; how a file is cut is the service's own choice."""
    silence_duration_ms: Milliseconds | None = None
    """Accepted, as `prefix_padding_ms`."""


Strategy = Annotated[
    ServerVad | None, BeforeValidator(_read_strategy, json_schema_input_type=Literal["auto"] | ServerVad)
]


class AudioRequest(RequestBody):
    """An upload and what is wanted of it."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "include": "there are no log-probabilities of tokens",
        "known_speaker_names": "speakers are not told apart",
        "known_speaker_references": "speakers are not told apart",
        "languages": "give 'language', or nothing for it to be detected",
    }
    """Parameters of OpenAI that cannot be honoured, and why."""
    LISTS: ClassVar[frozenset[str]] = frozenset({"timestamp_granularities", "hotwords", "keywords", "include"})
    """Those that may come several times, and with commas."""

    file: UploadFile
    """WAV, FLAC, MP3, OGG, M4A, MP4 or WebM. The file decides what it is, not its name or media type."""
    model: ModelId | None = None
    """Id of the model. Default: the first one of the service."""
    language: Annotated[Text, _at_most(64)] | None = None
    """What is spoken, as ISO 639-1 code or English name. Default: it is detected."""
    prompt: Text | None = None
    """Text that comes before: the model goes on in its spelling and style. Its last 223 tokens count."""
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    """Default: json."""
    temperature: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """0 (default) takes the most likely text, and others where that looks wrong; up to 1 samples."""
    timestamp_granularities: list[Granularity] | None = None
    """Only with verbose_json: `segment` (default), `word`."""
    stream: bool | None = None
    """Send the text segment by segment, as server-sent events; only as json or text."""
    chunking_strategy: Strategy = None
    """`auto`, or how speech is told from silence."""
    hotwords: Annotated[list[Word], Field(max_length=MOST_HOT_WORDS)] | None = None
    """Words that are likely to be said: names, terms. At most 100, of 100 characters."""
    keywords: Annotated[list[Word], Field(max_length=MOST_HOT_WORDS)] | None = None
    """OpenAI's name of `hotwords`."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        for name, why in cls.REFUSED.items():
            if name in data:
                raise fault(name, f"cannot be honoured: {why}")
        return data

    @model_validator(mode="after")
    def _check_together(self) -> "AudioRequest":
        if self.stream and self.response_format not in {"json", "text"}:
            raise fault("stream", f"is for the response_format json or text, not {self.response_format}")
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise fault("timestamp_granularities", "is only for the response_format verbose_json")
        if self.hotwords and self.keywords:
            raise fault("keywords", "is another name of hotwords: give one of them")
        return self

    @property
    def granularities(self) -> frozenset[Granularity]:
        """Which times are returned with verbose_json."""
        return frozenset(self.timestamp_granularities or ["segment"])


class Segment(BaseModel):
    """A part of the text. Times are in seconds."""

    id: int
    seek: int
    """Where the window began that it was read from, in hundredths of a second."""
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class TimedWord(BaseModel):
    """A word with its punctuation. Times are in seconds."""

    word: str
    start: float
    end: float


class Duration(BaseModel):
    """What the request has used."""

    type: Literal["duration"]
    seconds: float


class AudioResponse(BaseModel):
    """The text. All but `text` and `usage` only with verbose_json."""

    text: str
    usage: Duration
    task: Literal["transcribe", "translate"] | None = None
    language: str | None = None
    """English name of the language of the text."""
    duration: float | None = None
    """Seconds."""
    segments: list[Segment] | None = None
    words: list[TimedWord] | None = None
