"""The Triton models of one language model: engine, scorer, grammar check.

A model with no folder of its own in model_repository/ (bring your own) is built on the default model's folders, with
name and facts from the manifest.
"""

from collections.abc import Mapping
from pathlib import Path

from services.common.manifest import LlmFacts, Model
from services.common.runtime_repository import MODEL_REPOSITORY, RuntimeModel
from services.common.triton import model_config_pb2

TEMPLATE = "smollm2_135m_instruct"
SCORE, GRAMMAR = "_score", "_grammar"

_GRAPH = {name: name for name in ("openvino_model.xml", "openvino_model.bin")}
_TEXT = {
    name: name
    for name in (
        "openvino_tokenizer.xml",
        "openvino_tokenizer.bin",
        "openvino_detokenizer.xml",
        "openvino_detokenizer.bin",
        "config.json",
        "generation_config.json",
    )
}
_SMALL_GRAPH = {"openvino_model.xml": "grammar_model.xml", "openvino_model.bin": "grammar_model.bin"}
_ARTIFACTS = {"": {**_GRAPH, **_TEXT}, SCORE: _GRAPH, GRAMMAR: {**_SMALL_GRAPH, **_TEXT}}


def runtime_models(
    model: Model, facts: LlmFacts, files: Mapping[str, Path], threads: int, slots: int
) -> list[RuntimeModel]:
    """Return the Triton models of `model` with the `files` of the store that they need.

    `slots` is how many answers the engine works on at once.
    """
    name = model.triton_name
    own = (MODEL_REPOSITORY / "llm" / name).is_dir()

    def adapt(config: model_config_pb2.ModelConfig) -> None:
        config.name = config.name.replace(TEMPLATE, name)
        for key, value in _parameters(facts, threads, slots).items():
            if key in config.parameters:
                config.parameters[key].string_value = value

    return [
        RuntimeModel(
            name + suffix,
            {target: files[source] for target, source in artifacts.items()},
            folder=(name if own else TEMPLATE) + suffix,
            adapt=adapt,
        )
        for suffix, artifacts in _ARTIFACTS.items()
    ]


def _parameters(facts: LlmFacts, threads: int, slots: int) -> dict[str, str]:
    return {
        "threads": str(threads),
        "max_running": str(slots),
        "context_length": str(facts.context_length),
        "vocabulary_size": str(facts.vocabulary_size),
        "eos_token_ids": ",".join(map(str, facts.eos_token_ids)),
    }
