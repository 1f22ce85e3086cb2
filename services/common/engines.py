"""The engine cache, as services see it: what Triton executes where a profile is not the default one. Read only.

Layout: `<model store>/engines/<digest of the key>/` with the files and their sidecar `engine.json`. An engine is taken
only when every field of its key that this machine knows agrees with the machine, its files have the digests of the
sidecar, and the gate passed it. Building and publishing is the work of tools/engines.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from services.common.model_store import sha256_of

SIDECAR = "engine.json"
SIDECAR_FORMAT = 1
SIDECAR_MAX_BYTES = 1 << 20
TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
VERSION_COMPATIBLE = "version-compatible"
"""In `compatibility`: a TensorRT plan that later releases of the same major version run, too."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]


class EngineError(Exception):
    """An engine cannot be taken; one line that says why and what to run."""


class EngineMissingError(EngineError):
    """The cache has no engine for this model and profile."""


class EngineMismatchError(EngineError):
    """The engine was built for something else: another GPU, version, graph ... Names each field that differs."""


class EngineDamagedError(EngineError):
    """A file or the sidecar is not what was published."""


class GateError(EngineError):
    """The engine did not pass the accuracy gate."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineKey(_Record):
    """Everything that decides what an engine is and where it runs. An empty field binds the engine to nothing."""

    triton_model: str = Field(min_length=1)
    profile: str = Field(min_length=1)
    source_sha256: str = ""
    """Digest of the ONNX graph in the model store, external data included."""
    recipe: str = ""
    """Precision recipe and its version, for example "autocast-fp16 1"."""
    calibration_sha256: str = ""
    shapes: str = ""
    """Optimisation profiles in canonical JSON."""
    builder: str = ""
    """Who made the file, with its version: "tensorrt 11.4.0.1", "tensorrt-rtx 1.7.1.116", "onnxruntime 1.31.1"."""
    builder_flags: str = ""
    compatibility: str = ""
    """Comma-separated: "version-compatible", "hardware=ampere-plus" ..."""
    gpu_name: str = ""
    compute_capability: str = ""
    """Of a GPU, major and minor number: "9.0"; "8.0+" for this and later ones. Of CPUs that compute in integers, the
    bits of a weight: "int8", or "int7+" for all of them."""
    platform: str = ""
    """Operating system and architecture, "linux-x86_64"."""

    @property
    def digest(self) -> str:
        """SHA-256 of the fields as canonical JSON, in hexadecimal."""
        return hashlib.sha256(canonical_json(self.model_dump())).hexdigest()

    def differences(self, live: Mapping[str, str]) -> list[str]:
        """Return one text for each field of `live` that this key does not fit. ValueError for an unknown field."""
        if unknown := sorted(live.keys() - type(self).model_fields.keys()):
            raise ValueError(f"not a field of an engine's key: {', '.join(unknown)}")
        own = self.model_dump()
        return [
            f"{name} of the engine is {own[name]!r}, of this machine {live[name]!r}"
            for name in type(self).model_fields
            if name in live and own[name] and not self._fits(name, own[name], live[name])
        ]

    def _fits(self, name: str, own: str, live: str) -> bool:
        if own == live:
            return True
        if name == "compute_capability" and own.endswith("+"):
            return _numbers(live) >= _numbers(own)
        if name == "builder" and VERSION_COMPATIBLE in self.compatibility.split(","):
            same_builder = own.partition(" ")[0] == live.partition(" ")[0]
            return same_builder and _numbers(own)[:1] == _numbers(live)[:1] and _numbers(live) >= _numbers(own)
        return False


class EngineFile(_Record):
    """A file of an engine: SHA-256 and size in bytes."""

    sha256: Digest
    size: int = Field(ge=0)


class _Sidecar(_Record):
    """`engine.json`. `seal` is the SHA-256 of all other fields as canonical JSON: an edit by hand is noticed."""

    format: Literal[1]
    key: EngineKey
    model: str
    files: dict[FileName, EngineFile] = Field(min_length=1)
    gate: dict[str, Any]
    facts: dict[str, Any] = Field(default_factory=dict)
    created: datetime
    build_seconds: float = Field(ge=0)
    seal: Digest


class Engine(_Record):
    """One engine of the cache."""

    key: EngineKey
    model: str
    """Public model id."""
    files: dict[FileName, EngineFile]
    gate: dict[str, Any]
    """What the accuracy gate found: `passed`, and its metrics."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What build and verify measured; decides nothing."""
    created: datetime
    build_seconds: float
    folder: Path

    @property
    def serves_in_triton(self) -> bool:
        """Whether Triton can execute the file: not one of TensorRT-RTX, which is no plan of TensorRT."""
        return self.key.builder.partition(" ")[0] != TENSORRT_RTX

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def path(self, name: str) -> Path:
        """Path of one of the files."""
        return self.folder / name

    def sidecar(self) -> bytes:
        """Return the content of `engine.json`."""
        fields = self.model_dump(mode="json", exclude={"folder"}) | {"format": SIDECAR_FORMAT}
        return json.dumps(fields | {"seal": _seal(fields)}, indent=2).encode() + b"\n"

    def check_files(self) -> None:
        """Hash every file. EngineDamagedError names the first that is missing or not what was published."""
        for name, file in self.files.items():
            path = self.path(name)
            try:
                found = EngineFile(sha256=sha256_of(path), size=path.stat().st_size)
            except OSError as error:
                raise EngineDamagedError(_again(f"cannot read {path}: {error.strerror}", self)) from error
            if found != file:
                raise EngineDamagedError(
                    _again(f"{path} was altered: its digest is {found.sha256[:12]}, not {file.sha256[:12]}", self)
                )

    def check_gate(self) -> None:
        """GateError unless the gate passed this engine."""
        if self.gate.get("passed") is not True:
            reason = self.gate.get("reason") or "its sidecar has no passed gate"
            raise GateError(_again(f"the accuracy gate refused {describe(self.key)}: {reason}", self))


class EngineCache:
    """The engines below the root of a model store, which may be empty, read-only or missing."""

    def __init__(self, store_root: Path) -> None:
        self.root = store_root / "engines"

    def all(self) -> list[Engine]:
        """Return every engine with a readable sidecar, newest first. Files are not looked at."""
        engines = [found for found in self._scan() if isinstance(found, Engine)]
        return sorted(engines, key=lambda engine: engine.created, reverse=True)

    def damaged(self) -> list[EngineDamagedError]:
        """Return what is wrong with each folder whose sidecar cannot be believed."""
        return [found for found in self._scan() if isinstance(found, EngineDamagedError)]

    def find(self, triton_model: str, profile: str) -> Engine | None:
        """Return the newest engine for this model and profile that Triton can execute, fitting or not."""
        return next(iter(self._candidates(triton_model, profile)), None)

    def require(self, triton_model: str, profile: str, live: Mapping[str, str]) -> Engine:
        """Return the newest engine that fits `live`, the fields of the key this machine knows; all checks passed.

        EngineMissingError, EngineMismatchError (of the engine with the fewest differences), EngineDamagedError or
        GateError otherwise.
        """
        candidates = self._candidates(triton_model, profile)
        if not candidates:
            raise self._missing(triton_model, profile)
        differing = [(engine.key.differences(live), engine) for engine in candidates]
        differences, engine = min(differing, key=lambda pair: len(pair[0]))
        if differences:
            raise EngineMismatchError(_again(f"{describe(engine.key)} does not fit: {'; '.join(differences)}", engine))
        engine.check_gate()
        engine.check_files()
        with suppress(OSError):  # the age that pruning goes by; a read-only store has none
            os.utime(engine.path(SIDECAR))
        return engine

    def read(self, folder: Path) -> Engine:
        """Return the engine in a folder named by the digest of its key. EngineDamagedError when it cannot be read."""
        path = folder / SIDECAR
        try:
            if path.stat().st_size > SIDECAR_MAX_BYTES:
                raise ValueError("too large")
            document = json.loads(path.read_bytes())
            sidecar = _Sidecar.model_validate(document)
            sealed = _seal({name: value for name, value in document.items() if name != "seal"})
        except OSError as error:
            raise EngineDamagedError(_remove(f"cannot read {path}: {error.strerror}")) from error
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise EngineDamagedError(_remove(f"{path} is damaged: {place}: {error.errors()[0]['msg']}")) from error
        except (ValueError, RecursionError) as error:
            raise EngineDamagedError(_remove(f"{path} is damaged or cut short")) from error
        if sidecar.key.digest != folder.name or sealed != sidecar.seal:
            raise EngineDamagedError(_remove(f"{path} was altered: it does not match its own digest"))
        fields = {name: getattr(sidecar, name) for name in Engine.model_fields if name != "folder"}
        return Engine(**fields, folder=folder)

    def _scan(self) -> Iterator[Engine | EngineDamagedError]:
        folders = sorted(self.root.glob("*")) if self.root.is_dir() else []
        for folder in folders:
            if not re.fullmatch(r"[0-9a-f]{64}", folder.name):
                continue
            try:
                yield self.read(folder)
            except EngineDamagedError as error:
                yield error

    def _candidates(self, triton_model: str, profile: str) -> list[Engine]:
        wanted = (triton_model, profile)
        of_profile = [engine for engine in self.all() if (engine.key.triton_model, engine.key.profile) == wanted]
        return [engine for engine in of_profile if engine.serves_in_triton]

    def _missing(self, triton_model: str, profile: str) -> EngineError:
        if damaged := self.damaged():
            return EngineDamagedError(f"no engine for {triton_model} with profile {profile}, but {damaged[0]}")
        same = [
            engine for engine in self.all() if (engine.key.triton_model, engine.key.profile) == (triton_model, profile)
        ]
        hint = f" (one of {same[0].key.builder} is there, which Triton cannot execute)" if same else ""
        return EngineMissingError(
            f"no engine for {triton_model} with profile {profile} in {self.root}{hint}; "
            f"run: tools/flotilla engines build {triton_model} --profile {profile}"
        )


def describe(key: EngineKey) -> str:
    """Return how messages name an engine."""
    return f"the engine {key.digest[:12]} for {key.triton_model} with profile {key.profile}"


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys and no blanks: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _seal(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(fields)).hexdigest()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _again(message: str, engine: Engine) -> str:
    return f"{message}; run: tools/flotilla engines build {engine.model} --profile {engine.key.profile}"


def _remove(message: str) -> str:
    return f"{message}; run: tools/flotilla engines prune --damaged, then build it again"
