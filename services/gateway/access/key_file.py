"""The key file: which API keys there are and what each may do. It holds digests, never a key.

A key is `flt_<id>_<secret>`: an id to find it by, and 256 random bits, for which one SHA-256 is hash enough.
"""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

PREFIX = "flt"
ALL = ("*",)

Patterns = tuple[str, ...]


class KeyFileError(Exception):
    """The file cannot be used; the message says why and quotes nothing of it."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class KeyLimits(_Strict):
    """How much a key may use. What is unset has no limit. Minutes renew all the time, days at midnight UTC."""

    concurrency: int | None = Field(default=None, ge=1)
    """Requests at the same time."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    requests_per_day: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)
    audio_seconds_per_minute: int | None = Field(default=None, ge=1)
    audio_seconds_per_day: int | None = Field(default=None, ge=1)
    images_per_minute: int | None = Field(default=None, ge=1)
    images_per_day: int | None = Field(default=None, ge=1)


class Key(_Strict):
    """One key. Patterns are as of shells: `*` stands for any characters."""

    id: str = Field(pattern="^[0-9a-f]{12}$")
    """The part of the key to find it by; what services and logs call its holder."""
    name: str = Field(min_length=1, max_length=100)
    """For people."""
    digest: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    """Of the whole key."""
    created: AwareDatetime
    expires: AwareDatetime | None = None
    """From when on it is refused."""
    models: Patterns = Field(default=ALL, min_length=1)
    """Patterns of the public ids of models."""
    services: Patterns = Field(default=ALL, min_length=1)
    """Patterns of the services of the fleet: llm, embedding, asr, vision."""
    routes: Patterns = Field(default=ALL, min_length=1)
    """Patterns of HTTP paths and gRPC methods: `/v1/embeddings`, `/inference.GRPCInferenceService/*`."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Place in the queues of the services: lower goes first."""
    limits: KeyLimits = KeyLimits()


class KeyFile(_Strict):
    """All keys."""

    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        if len({key.id for key in self.keys}) != len(self.keys):
            raise ValueError("two keys have the same id")
        return self


def covers(patterns: Collection[str], name: str) -> bool:
    """Whether one of the patterns stands for `name`."""
    return "*" in patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def new_key() -> tuple[str, str, str]:
    """Return a new key, its id and its digest."""
    identifier = secrets.token_hex(6)
    key = f"{PREFIX}_{identifier}_{secrets.token_hex(32)}"
    return key, identifier, digest_of(key)


def digest_of(key: str) -> str:
    """Return the digest to keep of a key."""
    return "sha256:" + hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def id_of(key: str) -> str:
    """Return the id in a key; empty where it does not look like one."""
    prefix, _, rest = key.partition("_")
    return rest.partition("_")[0] if prefix == PREFIX else ""


def read(path: Path) -> KeyFile:
    """Return the keys of a file. Raises KeyFileError."""
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise KeyFileError(f"the key file {path} is broken: {where + ': ' if where else ''}{fault['msg']}") from None


def write(path: Path, content: KeyFile) -> None:
    """Replace a file at once, readable for its owner alone. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, not a path
            file.write(content.model_dump_json(indent=2, exclude_defaults=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
