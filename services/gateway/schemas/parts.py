"""The parts that a message is made of, whatever a route calls their types. There is only text."""

from collections.abc import Iterable
from typing import Any

from pydantic import model_validator

from services.gateway.schemas.common import RequestBody, Text, utf8, wrong

_OTHERS = {
    "image_url": "images",
    "input_image": "images",
    "input_audio": "audio",
    "file": "files",
    "input_file": "files",
    "video_url": "videos",
}


class Part(RequestBody):
    """A piece of a message."""

    type: str
    text: Text | None = None
    refusal: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, data: Any) -> Any:
        kind = data.get("type") if isinstance(data, dict) else None
        if isinstance(kind, str) and kind in _OTHERS:
            raise wrong(f"is of type {kind}; this model takes no {_OTHERS[kind]}")
        return data

    @model_validator(mode="after")
    def _has_its_text(self) -> "Part":
        name = "refusal" if self.type == "refusal" else "text"
        if getattr(self, name) is None:
            raise wrong(f"must have {name}")
        return self


def as_parts(value: Any, part: type[Part], kind: str) -> Any:
    """Return a text as its one part, of type `kind`, and a list of parts as it is."""
    if isinstance(value, str):
        return [part.model_construct(type=kind, text=utf8(value))]
    if not isinstance(value, list):
        raise wrong("must be a string or a list of parts")
    return value


def text_of(parts: Iterable[Part]) -> str:
    """Return what is said, parts on lines of their own."""
    return "\n".join(part.text or part.refusal or "" for part in parts)
