"""The runtime repository: what Triton is started on, put together from config, code and artifacts.

<state>/<service>/repository/<model>/config.pbtxt   the chosen profile, with this machine's instance count
                                    /1/model.py     link to the code in model_repository/
                                    /1/<artifact>   link into the model store
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from services.common.profiles import PARAMETER, profile_of
from services.common.server import StartupError
from services.common.settings import REPOSITORY_ROOT
from services.common.triton import model_config_pb2

MODEL_REPOSITORY = REPOSITORY_ROOT / "model_repository"


@dataclass(frozen=True, slots=True)
class RuntimeModel:
    """One Triton model and what it is put together from."""

    name: str
    artifacts: Mapping[str, Path]
    """File name in the version folder to path in the store."""
    folder: str
    """Folder in the model repository that has configuration and code."""
    adapt: Callable[[model_config_pb2.ModelConfig], None] | None = None
    """Fits the configuration of a shared folder to this model."""


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    """Return the parsed config.pbtxt. Raises StartupError that names file and place when it does not parse."""
    try:
        return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise StartupError(f"{path}: {error}") from None


def profile_config(model: Path, profile: str | None) -> Path:
    """Return the config file of `profile` for the model folder `model`.

    None and the default profile are config.pbtxt; any other name must be in configs/. Raises StartupError otherwise:
    Triton itself would fall back silently.
    """
    plain = model / "config.pbtxt"
    if profile is None or profile == profile_of(read_config(plain)):
        return plain
    variant = model / "configs" / f"{profile}.pbtxt"
    if not variant.exists():
        known = sorted([profile_of(read_config(plain)), *(p.stem for p in (model / "configs").glob("*.pbtxt"))])
        raise StartupError(f"profile {profile!r} does not exist for {model.name}; there are: {', '.join(known)}")
    return variant


def materialise(
    source: Path, target: Path, models: Sequence[RuntimeModel], profile: str | None, cpu_threads: int
) -> dict[str, model_config_pb2.ModelConfig]:
    """Build the repository `target` from the models in `source` and return their configurations by name.

    Models whose first instance group runs on the CPU get one single-threaded instance for each of `cpu_threads`,
    unless their configuration fixes the count with the parameter "instances": "fixed".
    """
    shutil.rmtree(target, ignore_errors=True)
    configs = {}
    for model in models:
        folder = source / model.folder
        config = read_config(profile_config(folder, profile))
        config.parameters[PARAMETER].string_value = profile or profile_of(config)
        if model.adapt is not None:
            model.adapt(config)
        _set_instances(config, cpu_threads)
        version = target / model.name / "1"
        version.mkdir(parents=True)
        for code in (folder / "1").glob("*.py"):
            (version / code.name).symlink_to(code.resolve())
        for name, path in model.artifacts.items():
            (version / name).symlink_to(path.resolve())
        (target / model.name / "config.pbtxt").write_text(text_format.MessageToString(config))
        configs[model.name] = config
    return configs


def _set_instances(config: model_config_pb2.ModelConfig, cpu_threads: int) -> None:
    fixed = config.parameters["instances"].string_value == "fixed" if "instances" in config.parameters else False
    for group in config.instance_group:
        if group.kind == model_config_pb2.ModelInstanceGroup.KIND_CPU and not fixed:
            group.count = cpu_threads
