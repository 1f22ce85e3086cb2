"""The contract of artifacts, checked with the runtime that serves them before anything is stored."""

from collections.abc import Mapping
from pathlib import Path

from services.common.manifest import Model
from tools.cli.console import Problem
from tools.model_preparation.asr_contract import check_asr
from tools.model_preparation.encoder_contract import check_encoder
from tools.model_preparation.graph_loading import ContractError
from tools.model_preparation.llm_contract import check_llm
from tools.model_preparation.vision_contract import check_vision


def check_artifacts(model: Model, artifacts: Mapping[str, Path]) -> None:
    """Check all that serving relies on. Problem says what does not hold."""
    try:
        if absent := [name for name in model.required_artifacts if name not in artifacts]:
            raise ContractError(f"{', '.join(absent)} is missing")
        if model.embedding is not None and "model.onnx" in artifacts:
            check_encoder(model.embedding, artifacts)
        if model.llm is not None:
            check_llm(model.llm, artifacts)
        if model.asr is not None:
            check_asr(model.asr, artifacts)
        if model.vision is not None:
            check_vision(model, model.vision, artifacts)
    except ContractError as error:
        message = f"artifacts of '{model.id}' refused: {error}"
        raise Problem(message, "see docs/models.md for what the artifacts must be") from error
