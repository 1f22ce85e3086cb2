"""The Triton models of one encoder: the graph, its tokenizer, the ensemble of both.

A model with no folder of its own in model_repository/ (bring your own) is built on the default encoder's folders, with
names and dimensions from the manifest.
"""

from collections.abc import Mapping
from pathlib import Path

from services.common.manifest import EmbeddingFacts, Model
from services.common.runtime_repository import MODEL_REPOSITORY, RuntimeModel
from services.common.triton import model_config_pb2

TEMPLATE = "all_minilm_l6_v2"
TOKENIZER, TEXT = "_tokenizer", "_text"
GRAPH = "model.onnx"


def runtime_models(model: Model, facts: EmbeddingFacts, files: Mapping[str, Path]) -> list[RuntimeModel]:
    """Return encoder, tokenizer and ensemble of `model` with the `files` of the store that they need."""
    name = model.triton_name
    own = (MODEL_REPOSITORY / "embedding" / name).is_dir()
    artifacts = {"": GRAPH, TOKENIZER: "tokenizer.json", TEXT: None}

    def adapt(config: model_config_pb2.ModelConfig) -> None:
        _rename(config, name)
        _resize(config, facts)

    return [
        RuntimeModel(
            name + suffix,
            {artifact: files[artifact]} if artifact else {},
            folder=(name if own else TEMPLATE) + suffix,
            adapt=None if own else adapt,
            model=model.id,
            graph=GRAPH if artifact == GRAPH else None,
        )
        for suffix, artifact in artifacts.items()
    ]


def _rename(config: model_config_pb2.ModelConfig, name: str) -> None:
    config.name = config.name.replace(TEMPLATE, name)
    for step in config.ensemble_scheduling.step:
        step.model_name = step.model_name.replace(TEMPLATE, name)


def _resize(config: model_config_pb2.ModelConfig, facts: EmbeddingFacts) -> None:
    for output in config.output:
        if output.data_type == model_config_pb2.TYPE_FP32:
            output.dims[:] = [facts.dimensions]
    sizes = {
        "max_sequence_length": facts.max_tokens,
        "max_tokens": facts.max_tokens,
        "vocabulary_size": facts.vocabulary_size,
        "values.input_ids": facts.vocabulary_size,
    }
    for key in sizes.keys() & config.parameters.keys():
        config.parameters[key].string_value = str(sizes[key])
