"""What the artifacts of a vision model must be: tensors, shapes, self-tests reproduced, lists of the right length.

The graph of the Triton model `<name>` is model.onnx, that of `<name>_<part>` is <part>.onnx.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.common.contract import Contract, Tensor
from services.common.manifest import Model, VisionFacts
from services.vision.model import contracts
from tools.export.selftest import difference, read_selftest
from tools.model_preparation.graph_loading import ContractError, load_graph

ELEMENT_TYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32", "tensor(int32)": "INT32"}
CHARACTERS = 2
"""The fewest lines of characters.txt: the blank and one character."""


def check_vision(model: Model, facts: VisionFacts, artifacts: Mapping[str, Path]) -> None:
    """Check the graphs and lists of a vision model. ContractError says what does not hold."""
    for name, contract in contracts(model).items():
        graph = name.removeprefix(model.triton_name).removeprefix("_") or "model"
        _check_graph(f"{graph}.onnx", f"{graph}.selftest.npz", contract, artifacts)
    if facts.labels is not None:
        _check_lines("labels.txt", artifacts, facts.labels, facts.labels)
    if facts.task == "read_text":
        _check_lines("characters.txt", artifacts, CHARACTERS, None)


def _check_graph(graph: str, selftest: str, contract: Contract, artifacts: Mapping[str, Path]) -> None:
    session = load_graph(artifacts[graph], graph)
    _check_tensors(graph, "inputs", contract.inputs, session.get_inputs())
    _check_tensors(graph, "outputs", contract.outputs, session.get_outputs())
    try:
        inputs, expected = read_selftest(artifacts[selftest])
    except ValueError as error:
        raise ContractError(f"{selftest} is not a self-test: {error}") from error
    if absent := contract.outputs.keys() - expected.keys():
        raise ContractError(f"{selftest} is not a self-test: it lacks {', '.join(sorted(absent))}")
    try:
        computed = session.run(list(expected), inputs)
    except Exception as error:
        raise ContractError(f"{graph} fails on the inputs of {selftest}") from error
    if wrong := difference(expected, dict(zip(expected, computed, strict=True))):
        raise ContractError(f"{graph} does not reproduce {selftest}: {wrong}")


def _check_tensors(graph: str, which: str, wanted: Mapping[str, Tensor], found: list[Any]) -> None:
    """Compare names, element types and shapes. What is free in the contract must be so for inputs, not for outputs."""
    actual = {tensor.name: (ELEMENT_TYPES.get(tensor.type, tensor.type), tensor.shape) for tensor in found}
    fits = actual.keys() == wanted.keys() and all(
        kind == wanted[name].datatype and _shape_fits(shape, wanted[name].shape, free=which == "inputs")
        for name, (kind, shape) in actual.items()
    )
    if not fits:
        expected = {name: (tensor.datatype, ["batch", *tensor.shape]) for name, tensor in wanted.items()}
        raise ContractError(f"{which} of {graph} are {actual}, expected {expected}")


def _shape_fits(shape: list[Any], wanted: tuple[int, ...], *, free: bool) -> bool:
    if len(shape) != 1 + len(wanted) or isinstance(shape[0], int):
        return False
    pairs = zip(shape[1:], wanted, strict=True)
    return all(not isinstance(size, int) or length == size or (length == -1 and not free) for size, length in pairs)


def _check_lines(name: str, artifacts: Mapping[str, Path], fewest: int, most: int | None) -> None:
    """Count lines that end in a newline; other separators are characters."""
    try:
        lines = artifacts[name].read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except ValueError as error:
        raise ContractError(f"{name} is not UTF-8") from error
    if len(lines) < fewest or (most is not None and len(lines) > most):
        raise ContractError(f"{name} has {len(lines)} lines, expected {fewest}{'' if most else ' or more'}")
