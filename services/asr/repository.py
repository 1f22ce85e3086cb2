"""The Triton model of one speech recogniser, and the artifacts of the store that it takes.

A model with no folder of its own in model_repository/ (bring your own) is built on the default model's folder.
"""

from collections.abc import Mapping
from pathlib import Path

from services.common.manifest import Model
from services.common.runtime_repository import MODEL_REPOSITORY, RuntimeModel
from services.common.triton import model_config_pb2

TEMPLATE = "whisper_base"
VOCABULARY, SELFTEST = "tokenizer.json", "selftest.npz"
ENGINE_FILES = ("model.bin", "config.json", "vocabulary.txt", VOCABULARY)


def runtime_model(model: Model, files: Mapping[str, Path], threads: int) -> RuntimeModel:
    """Return the Triton model of `model` with the `files` of the store that it needs.

    `threads` is what the engine computes with.
    """
    name = model.triton_name
    own = (MODEL_REPOSITORY / "asr" / name).is_dir()

    def adapt(config: model_config_pb2.ModelConfig) -> None:
        config.name = name
        config.parameters["threads"].string_value = str(threads)

    return RuntimeModel(
        name, {file: files[file] for file in ENGINE_FILES}, folder=name if own else TEMPLATE, adapt=adapt
    )
