"""What limits and scopes need to know of messages: the models they name, and what a call has used.

Found in the contracts by the names of fields, so that a new method needs nothing here:
a request names its model as `model` or `model_name`, in itself or in its configuration; the last message of an answer
has `usage`, in itself or in a summary. Riva's answers tell the audio worked on, KServe's tell nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message

from services.common.errors import invalid

TOKENS, AUDIO_SECONDS, IMAGES = "tokens", "audio_seconds", "images"

Used = Mapping[str, float]
"""Amounts by unit."""

_Path = tuple[str, ...]
_MODEL_NAMES = ("model", "model_name")
_KSERVE = "inference."
_UNIT_OF = {
    "prompt_tokens": TOKENS,
    "completion_tokens": TOKENS,
    "audio_seconds": AUDIO_SECONDS,
    "images": IMAGES,
}
_RIVA_PROGRESS = "audio_processed"
DEPTH = 2
"""Messages that hold the one in which a field is looked for."""
BYTES_OF_A_TOKEN = 4
"""Of English text, for the estimate before a service has counted."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the messages of one method have what."""

    request: type[Message]
    response: type[Message]
    models: tuple[_Path, ...]
    """Where a request may name its model."""
    nested: bool
    """Whether only a configuration names it: the first message of a stream has to, others need not."""
    usage: _Path | None
    units: frozenset[str]
    """What its usage is counted in."""


@lru_cache(maxsize=256)
def shape_of(method: str) -> Shape | None:
    """Return the shape of "/package.Service/Method"; None where its contract is not known here."""
    service, _, name = method[1:].partition("/")
    try:
        found = Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return None
    names = (*_MODEL_NAMES, "name") if service.startswith(_KSERVE) else _MODEL_NAMES
    models = tuple(_find(found.input_type, names))
    usage = next(iter(_find(found.output_type, ("usage",))), None)
    return Shape(
        request=message_factory.GetMessageClass(found.input_type),
        response=message_factory.GetMessageClass(found.output_type),
        models=models,
        nested=bool(models) and len(models[0]) > 1,
        usage=usage,
        units=_units(found.output_type, usage),
    )


def parsed(kind: type[Message], raw: bytes) -> Message:
    """Return the message in `raw`. Raises INVALID_ARGUMENT."""
    try:
        return kind.FromString(raw)
    except Exception as error:
        raise invalid(None, f"the request is not a valid message: {error}") from None


def models_in(shape: Shape, request: Message) -> list[str]:
    """Return the models a request names."""
    return [name for path in shape.models if (name := _value(request, path))]


def usage_in(shape: Shape, response: Message) -> Used | None:
    """Return what the whole call has used, where this message says so."""
    usage = None if shape.usage is None else _value(response, shape.usage)
    if usage is None:
        return None
    used: dict[str, float] = {}
    for field, amount in usage.ListFields():
        if unit := _UNIT_OF.get(field.name):
            used[unit] = used.get(unit, 0.0) + amount
    return used


def progress_in(shape: Shape, response: Any) -> Used:
    """Return what a message says of the use so far, of a call that may not come to its end.

    New tokens are to be added up, the seconds of audio are up to where it is.
    """
    if TOKENS in shape.units and "tokens" in response.DESCRIPTOR.fields_by_name:
        return {TOKENS: len(response.tokens)}
    return {AUDIO_SECONDS: _seconds(response)} if AUDIO_SECONDS in shape.units else {}


def estimate(shape: Shape, request: Any) -> tuple[Used, Used]:
    """Return what a request uses by itself, and with the longest answer it asks for, as far as it tells."""
    least = dict.fromkeys(shape.units, 0.0)
    if TOKENS in shape.units:
        least[TOKENS] = -(-request.ByteSize() // BYTES_OF_A_TOKEN)
    if IMAGES in shape.units:
        least[IMAGES] = _images(request)
    if "sampling" not in request.DESCRIPTOR.fields_by_name:
        return least, least
    return least, {TOKENS: least[TOKENS] + request.sampling.max_tokens * (request.sampling.n or 1)}


def _find(message: Descriptor, names: tuple[str, ...], depth: int = DEPTH) -> list[_Path]:
    """Return the paths to fields with one of the names: in the message itself, else in the messages that it holds."""
    for name in names:
        field = message.fields_by_name.get(name)
        if field is not None and not field.is_repeated:
            return [(name,)]
    if not depth:
        return []
    return [
        (field.name, *path)
        for field in message.fields
        if field.message_type is not None and not field.is_repeated
        for path in _find(field.message_type, names, depth - 1)
    ]


def _units(response: Any, usage: _Path | None) -> frozenset[str]:
    """Return what the usage in responses of that Descriptor is counted in."""
    if usage is None:
        results = response.fields_by_name.get("results")
        inner = results.message_type if results is not None else None
        return frozenset([AUDIO_SECONDS] if inner is not None and _RIVA_PROGRESS in inner.fields_by_name else [])
    for name in usage:
        response = response.fields_by_name[name].message_type
    return frozenset(unit for field, unit in _UNIT_OF.items() if field in response.fields_by_name)


def _value(message: Any, path: _Path) -> Any:
    """Return the value at the end of a path; None where it, or what holds it, is not set."""
    for name in path:
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None and not message.HasField(name):
            return None
        message = getattr(message, name)
    return message


def _images(request: Any) -> int:
    if "images" in request.DESCRIPTOR.fields_by_name:
        return len(request.images)
    return sum(_images(value) for field, value in request.ListFields() if field.message_type and not field.is_repeated)


def _seconds(response: Any) -> float:
    """Return up to which second the audio was worked on, as the three ways to tell it have it."""
    fields = response.DESCRIPTOR.fields_by_name
    if "received_seconds" in fields:
        return float(response.received_seconds)
    if "progress" in fields:
        return float(response.progress.done_seconds)
    if "results" in fields:
        return max((float(result.audio_processed) for result in response.results), default=0.0)
    return 0.0
