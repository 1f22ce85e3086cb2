"""Lint of a graph before anything is built from it: faults that exporters make silently and builders report badly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, defs

from tools.cli.console import Problem

LEAST_OPSET = 9
STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
FORBIDDEN = frozenset(
    {"Loop", "If", "Scan", "SequenceConstruct", "SequenceAt", "NonZero", "Unique", "StringNormalizer"}
)
"""Operators with a body, with sequences, or with results whose size depends on values: no CUDA graph, slow plans."""
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
PLAIN = {
    TensorProto.FLOAT: "float",
    TensorProto.UINT8: "uint8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}
"""Dtypes that Triton, ONNX Runtime and TensorRT all take and give."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a graph."""

    rule: str
    """Short name of the rule, say "unique-names"."""
    message: str
    """One line that names the tensor or the node."""


def lint(path: Path) -> tuple[Fault, ...]:
    """Return what is wrong with an ONNX file; nothing when it can be converted and built."""
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        return (Fault("readable", f"cannot be read: {error.strerror}"),)
    except Exception as error:
        return (Fault("readable", f"is no ONNX file, or cut short: {_line(error)}"),)
    if not model.graph.node or not model.graph.output:
        return (Fault("readable", "is no ONNX file, or cut short: it has no nodes or no outputs"),)
    faults = [*_operators(model), *_names(model.graph), *_tensors(model.graph), *_files(model.graph)]
    return tuple(faults) or tuple(_checked(path))


def check(path: Path) -> None:
    """Problem with the first fault of a graph, and how many there are."""
    faults = lint(path)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise Problem(
            f"{path.name}: {faults[0].rule}: {faults[0].message}{more}",
            "export the graph again; docs/engines.md lists the rules",
        )


def _operators(model: onnx.ModelProto) -> Iterator[Fault]:
    opsets = {one.domain: one.version for one in model.opset_import}
    opset = max((opsets.get(domain, 0) for domain in STANDARD_DOMAINS), default=0)
    if opset < LEAST_OPSET:
        yield Fault("opset", f"opset {opset}; at least {LEAST_OPSET} is needed")
        return
    if opset > defs.onnx_opset_version():
        yield Fault("opset", f"opset {opset} is newer than {defs.onnx_opset_version()}, the newest known here")
        return
    for node in model.graph.node:
        where = f"operator '{node.op_type}' of node '{node.name or node.output[0]}'"
        if node.domain not in STANDARD_DOMAINS:
            yield Fault("operators", f"{where} is of the domain '{node.domain}', not of ONNX")
        elif not defs.has(node.op_type, opset, ""):
            yield Fault("operators", f"{where} is unknown in opset {opset}")
        elif node.op_type in FORBIDDEN:
            yield Fault("operators", f"{where} is not supported: its result has no fixed place or size")
        elif node.op_type in RANDOM:
            yield Fault("operators", f"{where} is not supported: it gives other results in every run")


def _names(graph: onnx.GraphProto) -> Iterator[Fault]:
    constants = {constant.name for constant in graph.initializer}
    inputs = [one.name for one in graph.input if one.name not in constants]
    made = [name for node in graph.node for name in node.output if name]
    for name, count in Counter([*inputs, *constants, *made]).items():
        if count > 1:
            yield Fault("unique-names", f"'{name}' is the name of {count} tensors")
    nodes = Counter(node.name for node in graph.node if node.name)
    for output in graph.output:
        if output.name not in made:
            yield Fault("unique-names", f"no node makes the output '{output.name}'")
        elif nodes.get(output.name):
            yield Fault("unique-names", f"output '{output.name}' has the name of a node; TensorRT's parser refuses it")
        elif len(prefixes := _inside(output.name, graph)) > 0:
            yield Fault("unique-names", f"output '{output.name}' is named like an inner value: '{prefixes[0]}'")
    for name, count in nodes.items():
        if count > 1:
            yield Fault("unique-names", f"{count} nodes are named '{name}'")


def _inside(output: str, graph: onnx.GraphProto) -> list[str]:
    """Return inner values whose scope is the output's name: TensorRT joins them, and then has the name twice."""
    others = [name for node in graph.node for name in node.output if name and name != output]
    others += [constant.name for constant in graph.initializer]
    return [name for name in others if name.strip("/").split("/")[0].split(".")[0] == output]


def _tensors(graph: onnx.GraphProto) -> Iterator[Fault]:
    constants = {constant.name for constant in graph.initializer}
    for side, tensors in (("input", graph.input), ("output", graph.output)):
        for tensor in tensors:
            if tensor.name in constants:
                continue
            kind = tensor.type.tensor_type
            if kind.elem_type not in PLAIN:
                name = TensorProto.DataType.Name(kind.elem_type).lower()
                yield Fault("plain-dtypes", f"{side} '{tensor.name}' is {name}; use one of {', '.join(PLAIN.values())}")
            if not kind.HasField("shape"):
                yield Fault("named-axes", f"{side} '{tensor.name}' has no shape")
                continue
            for number, axis in enumerate(kind.shape.dim):
                if not axis.dim_param and axis.dim_value < 1:
                    yield Fault(
                        "named-axes", f"axis {number} of {side} '{tensor.name}' has neither a length nor a name"
                    )
            if side == "input" and not (kind.shape.dim and kind.shape.dim[0].dim_param):
                yield Fault("named-axes", f"the first axis of input '{tensor.name}' is no free batch")


def _files(graph: onnx.GraphProto) -> Iterator[Fault]:
    for constant in graph.initializer:
        if constant.data_location == TensorProto.EXTERNAL:
            place = next((entry.value for entry in constant.external_data if entry.key == "location"), "")
            yield Fault(
                "external-data", f"'{constant.name}' lies in another file ('{place}'); save the graph as one file"
            )
            return


def _checked(path: Path) -> Iterator[Fault]:
    """Yield what ONNX's own checker says: types and shapes that do not fit together, missing attributes."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        yield Fault("valid", _line(error))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
