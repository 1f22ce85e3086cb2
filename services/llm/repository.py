"""The Triton models of one language model: engine, scorer, grammar check.

A model with no folder of its own in model_repository/ (bring your own) is built on the default model's folders, with
name and facts from the manifest.
"""

from dataclasses import dataclass
from pathlib import Path

from services.common.manifest import LlmFacts, Model
from services.common.model_store import ModelStore, ModelStoreError
from services.common.runtime_repository import MODEL_REPOSITORY, RuntimeModel
from services.common.server import StartupError
from services.common.triton import model_config_pb2
from services.llm.vllm_files import SOURCES, vllm_files

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


@dataclass(frozen=True, slots=True)
class Place:
    """Where the models run, and how much they may take."""

    store: ModelStore
    repository: Path
    """The runtime repository that is put together."""
    threads: int
    slots: int
    """Answers the engine works on at once."""
    gpu_memory_utilization: float


def runtime_models(model: Model, facts: LlmFacts, place: Place) -> list[RuntimeModel]:
    """Return the Triton models of `model`. Raises ModelStoreError when the store lacks what every profile needs.

    The engine alone has profiles on GPUs; scorer and grammar check run by their only one beside it.
    """
    name = model.triton_name
    own = (MODEL_REPOSITORY / "llm" / name).is_dir()
    files = place.store.require(model.id, model.required_artifacts)

    def adapt(config: model_config_pb2.ModelConfig) -> None:
        config.name = config.name.replace(TEMPLATE, name)
        for key, value in _parameters(facts, place).items():
            if key in config.parameters:
                config.parameters[key].string_value = value

    return [
        RuntimeModel(
            name + suffix,
            {target: files[source] for target, source in artifacts.items()},
            folder=(name if own else TEMPLATE) + suffix,
            adapt=adapt,
            model=model.id,
            other_files=None if suffix else lambda config: _vllm_files(model, facts, place, config),
        )
        for suffix, artifacts in _ARTIFACTS.items()
    ]


def _vllm_files(
    model: Model, facts: LlmFacts, place: Place, config: model_config_pb2.ModelConfig
) -> dict[str, Path | str]:
    try:
        files = place.store.require(model.id, SOURCES)
    except ModelStoreError:
        raise StartupError(
            f"the store lacks the weights of '{model.id}' for vLLM; run: tools/models fetch {model.id} --backend vllm"
        ) from None
    given = {
        "model": str((place.repository / model.triton_name / "1").absolute()),
        "max_model_len": facts.context_length,
        "max_num_seqs": place.slots,
        "gpu_memory_utilization": place.gpu_memory_utilization,
    }
    return vllm_files(config, files, given)


def _parameters(facts: LlmFacts, place: Place) -> dict[str, str]:
    return {
        "threads": str(place.threads),
        "max_running": str(place.slots),
        "context_length": str(facts.context_length),
        "vocabulary_size": str(facts.vocabulary_size),
        "eos_token_ids": ",".join(map(str, facts.eos_token_ids)),
    }
