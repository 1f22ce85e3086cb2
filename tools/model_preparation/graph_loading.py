"""Loading a graph with the runtime that serves it, and the error of all contracts."""

from pathlib import Path
from typing import Any


class ContractError(Exception):
    """Artifacts are not what serving relies on; one line that says what."""


def load_graph(path: Path, name: str) -> Any:
    """Return an ONNX Runtime session on the graph. ContractError, with its artifact name, when it does not load."""
    import onnxruntime  # noqa: PLC0415 - slow to import, and a full store needs no check

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ContractError(f"{name} cannot be loaded by ONNX Runtime") from error
