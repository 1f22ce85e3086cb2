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
WEIGHTS = "model.bin"
"""In CTranslate2's format: what it reads itself, and what the graphs of other engines are made of."""
_ENGINE_FILES = (WEIGHTS, "config.json", VOCABULARY)
_WORDS = ("vocabulary.txt", "vocabulary.json")
"""The same in the two formats that CTranslate2 has had; a model has one of them."""


def engine_files(files: Mapping[str, Path]) -> dict[str, Path]:
    """Return what the engine reads of the `files` of a model. KeyError names one that is missing."""
    words = next((name for name in _WORDS if name in files), _WORDS[0])
    return {name: files[name] for name in (*_ENGINE_FILES, words)}


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
        name, engine_files(files), folder=name if own else TEMPLATE, adapt=adapt, model=model.id, graph=WEIGHTS
    )
