"""The configuration an engine will run under: that of its profile where there is one, else the default one."""

from pathlib import Path

from services.common.manifest import Model
from services.common.runtime_repository import MODEL_REPOSITORY, read_config
from services.common.triton import model_config_pb2
from services.embedding import repository as embedding
from tools.cli.console import Problem


def configuration(model: Model, triton_model: str, profile: str) -> model_config_pb2.ModelConfig:
    """Return the parsed config.pbtxt of a graph. Problem when the model repository has no such model."""
    folder, adapt = MODEL_REPOSITORY / model.service / triton_model, None
    if not folder.is_dir() and model.embedding is not None:  # bring your own encoder
        runtime = embedding.runtime_models(model, model.embedding, {name: Path(name) for name in model.artifacts})[0]
        folder, adapt = MODEL_REPOSITORY / model.service / runtime.folder, runtime.adapt
    variant = folder / "configs" / f"{profile}.pbtxt"
    path = variant if variant.is_file() else folder / "config.pbtxt"
    if not path.is_file():
        raise Problem(f"the model repository has no '{triton_model}' of service {model.service}", f"add {path}")
    config = read_config(path)
    if adapt is not None:
        adapt(config)
    return config
