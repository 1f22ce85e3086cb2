"""`flotilla profiles`: which execution profiles each model has, which of them fit this machine, and why not."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from services.asr.repository import runtime_model as asr_model
from services.asr.settings import AsrSettings
from services.common.engines import EngineCache
from services.common.machine import Machine, this_machine
from services.common.manifest import Manifest, ManifestError, Model, load_manifest
from services.common.model_store import ModelStore, ModelStoreError
from services.common.profile_choice import Chooser, Wanted
from services.common.runtime_repository import MODEL_REPOSITORY, RuntimeModel
from services.common.server import StartupError
from services.common.settings import ServiceSettings, load
from services.embedding.repository import runtime_models as embedding_models
from services.embedding.settings import EmbeddingSettings
from services.llm.repository import Place
from services.llm.repository import runtime_models as llm_models
from services.llm.settings import LlmSettings
from services.vision.repository import runtime_models as vision_models
from services.vision.settings import VisionSettings
from tools.cli.console import Problem, console
from tools.cli.settings import ToolSettings

SETTINGS: Mapping[str, type[ServiceSettings]] = {
    "asr": AsrSettings,
    "embedding": EmbeddingSettings,
    "llm": LlmSettings,
    "vision": VisionSettings,
}
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Row:
    """One profile of one model."""

    model: str
    service: str
    profile: str
    fits: bool
    taken: bool
    """Whether the service would run the model by it now: by the settings, or as the best that fits."""
    reasons: tuple[str, ...]
    """Why it does not fit, or what is in the way of the model as a whole."""


def profiles(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Model ids; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show the profiles of the models, which of them fit this machine, why the others do not, and which one is taken.

    Set FLOTILLA_<SERVICE>_PROFILE, or FLOTILLA_<SERVICE>_PROFILES=model=profile,... to choose. See docs/engines.md.

    Example: tools/flotilla profiles all-minilm-l6-v2
    """
    settings, manifest = _open()
    store, machine = ModelStore(settings.model_store), this_machine()
    logging.disable(logging.CRITICAL)  # the choice logs what the table says
    try:
        rows = [row for model in _named(manifest, models) for row in _rows(model, store, machine)]
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        facts = asdict(machine) | {"backends": sorted(machine.backends or ())}
        print(json.dumps({"machine": facts, "profiles": [asdict(row) for row in rows]}, indent=2))
    else:
        console.print(_described(machine), markup=False)
        _print(rows)


def _open() -> tuple[ToolSettings, Manifest]:
    settings = load(ToolSettings)
    try:
        return settings, load_manifest(settings.model_manifest)
    except ManifestError as error:
        raise Problem(str(error), "correct the manifest, or set FLOTILLA_MODEL_MANIFEST") from error


def _named(manifest: Manifest, names: Sequence[str] | None) -> list[Model]:
    try:
        return [manifest.model(name) for name in names] if names else list(manifest.models.values())
    except ManifestError as error:
        raise Problem(str(error), "tools/models list shows them") from error


def _rows(model: Model, store: ModelStore, machine: Machine) -> list[Row]:
    settings: Any = load(SETTINGS[model.service])
    try:
        parts = _parts(model, store, settings)
    except ModelStoreError as error:
        return [Row(model.id, model.service, "-", False, False, (str(error),))]
    machine = machine if settings.triton_url is None else this_machine(own_triton=False)
    chooser = Chooser(
        MODEL_REPOSITORY / model.service,
        machine,
        EngineCache(store.root),
        settings.common.cpu_threads,
        Wanted(settings.profile, _of_model(settings.profiles, parts), settings.gpu_instances),
    )
    taken, refused = _choice(chooser, parts)
    rows = [_row(model, name, chooser, parts, taken) for name in chooser.profiles(parts)]
    return rows + ([Row(model.id, model.service, "at start", False, False, (refused,))] if refused else [])


def _choice(chooser: Chooser, parts: Sequence[RuntimeModel]) -> tuple[dict[str, str], str]:
    """Return the profile that each Triton model would be run by now, or why the service would not start."""
    try:
        return {name: variant.profile for name, variant in chooser.choose(parts).items()}, ""
    except StartupError as error:
        return {}, str(error)


def _row(model: Model, name: str, chooser: Chooser, parts: Sequence[RuntimeModel], taken: Mapping[str, str]) -> Row:
    choosing = chooser.choosing(parts)
    faults = [reason for part in choosing for reason in chooser.fit(part, name).reasons]
    chosen = any(taken.get(part.name) == name for part in choosing)
    return Row(model.id, model.service, name, not faults, chosen, tuple(dict.fromkeys(faults)))


def _of_model(profiles: Mapping[str, str], parts: Sequence[RuntimeModel]) -> dict[str, str]:
    """Return the settings that are about this model; the start of the service looks at the others."""
    names = {name for part in parts for name in (part.name, part.model)}
    return {name: profile for name, profile in profiles.items() if name in names}


def _parts(model: Model, store: ModelStore, settings: Any) -> list[RuntimeModel]:
    """Return the Triton models of a public model. ModelStoreError when the store lacks it."""
    files, threads = store.require(model.id, model.required_artifacts), settings.common.cpu_threads
    if model.embedding is not None:
        return embedding_models(model, model.embedding, files)
    if model.vision is not None:
        return vision_models(model, files)
    if model.asr is not None:
        return [asr_model(model, files, threads)]
    assert model.llm is not None  # noqa: S101  # the manifest checks it
    repository = settings.common.state_dir / "llm" / "repository"
    place = Place(store, repository, threads, settings.admission_concurrency, settings.gpu_memory_utilization)
    return llm_models(model, model.llm, place)


def _described(machine: Machine) -> str:
    gpus = [f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in machine.gpus]
    parts = (
        f"{machine.platform}, {machine.memory_bytes / GIB:.1f} GiB of memory",
        f"GPUs: {', '.join(gpus)}, driver {machine.driver}" if gpus else "no NVIDIA GPU",
        f"Triton backends: {', '.join(sorted(machine.backends or ())) or 'none'}",
        f"TensorRT {machine.tensorrt}" if machine.tensorrt else "no TensorRT",
    )
    return f"This machine: {'; '.join(parts)}"


def _print(rows: Sequence[Row]) -> None:
    width = max(len(row.profile) for row in rows)
    before = ""
    for row in rows:
        if row.model != before:
            console.print(f"{row.model} ({row.service})", style="bold", markup=False)
        before = row.model
        first, *others = row.reasons or ("taken" if row.taken else "",)
        verdict = ("yes" if row.fits else "no").ljust(4)
        line = f"  {row.profile.ljust(width)}  {verdict} {first}".rstrip()
        console.print(line, style="green" if row.taken else "", markup=False)
        for reason in others:
            console.print(f"{' ' * (width + 9)}{reason}", markup=False)
