"""The runtime repository: what Triton is started on, put together from config, code, artifacts and engines.

<state>/<service>/repository/<model>/config.pbtxt   the chosen profile, with this machine's instance count
                                    /1/model.py     link to the code in model_repository/
                                    /1/<artifact>   link into the model store, or to a file of the engine cache
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from services.common.profiles import PARAMETER, on_one_gpu, profile_of
from services.common.server import StartupError
from services.common.settings import REPOSITORY_ROOT
from services.common.triton import model_config_pb2

MODEL_REPOSITORY = REPOSITORY_ROOT / "model_repository"
CONFIG = "config.pbtxt"
INSTANCES = "instances"
"""Parameter of a config.pbtxt: "fixed" where the instance count is not this machine's to choose."""


@dataclass(frozen=True, slots=True)
class RuntimeModel:
    """One Triton model and what it is put together from."""

    name: str
    artifacts: Mapping[str, Path]
    """File name in the version folder to path in the store."""
    folder: str
    """Folder in the model repository that has configuration and code."""
    adapt: Callable[[model_config_pb2.ModelConfig], None] | None = None
    """Fits the configuration of a shared folder to this model. The parameter "profile" names the chosen profile."""
    model: str = ""
    """Public id of the model it is a part of. Its parts run by the same profile, where they have variants at all."""
    graph: str | None = None
    """The artifact that engines are built from: in profiles with an engine, the engine's files are there instead."""
    other_files: Callable[[model_config_pb2.ModelConfig], Mapping[str, Path | str]] | None = None
    """Given the adapted configuration of a profile other than the default one: what the version folder has instead of
    the artifacts, paths to link to and texts to write. Raises StartupError or ModelStoreError when something is
    missing: that profile does not fit then."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How one Triton model is executed: the configuration, and the engine's files where it takes one."""

    profile: str
    config: Path
    engine_files: Mapping[str, Path] = field(default_factory=dict)
    """File name in the version folder to path in the engine cache."""
    shapes: str = ""
    """The optimisation profiles of the engine, in the JSON of its key: for each profile and input least, tuned and
    greatest shape, batch first."""
    gpu_instances: int | None = None
    """Instances on each GPU; None: as the configuration says."""

    @property
    def is_default(self) -> bool:
        """Whether this is the model's config.pbtxt."""
        return self.config.name == CONFIG


def adapted_config(model: RuntimeModel, variant: Variant) -> model_config_pb2.ModelConfig:
    """Return the configuration of a variant, which names its profile, fitted to the model."""
    config = read_config(variant.config)
    config.parameters[PARAMETER].string_value = variant.profile
    if model.adapt is not None:
        model.adapt(config)
    return config


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    """Return the parsed config.pbtxt. Raises StartupError that names file and place when it does not parse."""
    try:
        return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise StartupError(f"{path}: {error}") from None


def default_variant(folder: Path) -> Variant:
    """Return how the model of a folder in the model repository is executed without an engine: by config.pbtxt."""
    plain = folder / CONFIG
    return Variant(profile_of(read_config(plain)), plain)


def variants(folder: Path) -> dict[str, Path]:
    """Return the configurations of a folder in the model repository by profile, the default one first.

    A model with no variants in configs/ runs by config.pbtxt in every profile.
    """
    default = default_variant(folder)
    others = {path.stem: path for path in sorted((folder / "configs").glob("*.pbtxt"))}
    return {default.profile: default.config, **others}


def variant_config(folder: Path, profile: str) -> Path | None:
    """Return the configuration of a profile, None when the model has none; that of one GPU is for more of them too."""
    known = variants(folder)
    return known.get(profile) or known.get(on_one_gpu(profile))


def materialise(
    source: Path,
    target: Path,
    models: Sequence[RuntimeModel],
    chosen: Mapping[str, Variant] | None,
    cpu_threads: int,
) -> dict[str, model_config_pb2.ModelConfig]:
    """Build the repository `target` from the models in `source` and return their configurations by name.

    `chosen` has the variant of each model by name; None takes config.pbtxt for all. Models whose instance group runs on
    the CPU get one single-threaded instance for each of `cpu_threads`, unless their configuration fixes the count with
    the parameter "instances": "fixed".
    """
    shutil.rmtree(target, ignore_errors=True)
    configs = {}
    for model in models:
        folder = source / model.folder
        variant = default_variant(folder) if chosen is None else chosen[model.name]
        config = adapted_config(model, variant)
        if variant.shapes:
            _fit_to_shapes(config, json.loads(variant.shapes))
        _set_instances(config, cpu_threads, variant.gpu_instances)
        version = target / model.name / "1"
        version.mkdir(parents=True)
        for code in (folder / "1").glob("*.py") if config.backend == "python" else ():
            (version / code.name).symlink_to(code.resolve())
        for name, content in _files(model, variant, config).items():
            if isinstance(content, Path):
                (version / name).symlink_to(content.resolve())
            else:
                (version / name).write_text(content)
        (target / model.name / "config.pbtxt").write_text(text_format.MessageToString(config))
        configs[model.name] = config
    return configs


def has_fixed_instances(config: model_config_pb2.ModelConfig) -> bool:
    """Whether the instance count is not this machine's to choose."""
    return INSTANCES in config.parameters and config.parameters[INSTANCES].string_value == "fixed"


def slots(configs: Iterable[model_config_pb2.ModelConfig], cpu_threads: int, gpus: int) -> int:
    """Return how many batches run at the same time: the instances of the model that has most of them.

    Models whose instance count is fixed have engines that share the processors out by themselves.
    """
    choosing = [config for config in configs if config.instance_group and not has_fixed_instances(config)]
    counts = [_count(config.instance_group[0], gpus) for config in choosing]
    return max(counts, default=cpu_threads)


def _count(group: Any, gpus: int) -> int:
    on_gpu = group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    return int(group.count) * (len(group.gpus) or max(1, gpus) if on_gpu else 1)


def _files(model: RuntimeModel, variant: Variant, config: model_config_pb2.ModelConfig) -> Mapping[str, Path | str]:
    if model.other_files is not None and not variant.is_default:
        return {**model.other_files(config), **variant.engine_files}
    kept = {name: path for name, path in model.artifacts.items() if not variant.engine_files or name != model.graph}
    return {**kept, **variant.engine_files}


def _fit_to_shapes(config: model_config_pb2.ModelConfig, profiles: Sequence[Mapping[str, Any]]) -> None:
    """Name all optimisation profiles of an engine, and leave out CUDA graphs that none of them takes.

    The engine of a model that shares the folder of another may have been built for shorter inputs.
    """
    for group in config.instance_group:
        if group.profile:
            group.profile[:] = [str(number) for number in range(len(profiles))]
    cuda = config.optimization.cuda
    kept = [spec for spec in cuda.graph_spec if any(_takes(profile, spec) for profile in profiles)]
    if len(kept) < len(cuda.graph_spec):
        del cuda.graph_spec[:]
        cuda.graph_spec.extend(kept)


def _takes(profile: Mapping[str, Any], spec: Any) -> bool:
    """Whether the shapes of a CUDA graph lie inside an optimisation profile."""
    shapes = {name: (max(1, spec.batch_size), *shape.dim) for name, shape in spec.input.items()}
    if profile.keys() != shapes.keys():
        return False
    return all(
        low <= side <= high
        for name, (least, _, greatest) in profile.items()
        for low, side, high in zip(least, shapes[name], greatest, strict=True)
    )


def _set_instances(config: model_config_pb2.ModelConfig, cpu_threads: int, gpu_instances: int | None) -> None:
    if has_fixed_instances(config):
        return
    for group in config.instance_group:
        if group.kind == model_config_pb2.ModelInstanceGroup.KIND_CPU:
            group.count = cpu_threads
        elif group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU and gpu_instances is not None:
            group.count = gpu_instances
