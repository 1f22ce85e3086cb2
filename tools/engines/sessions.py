"""Graphs on ONNX Runtime's CPU provider, to calibrate and to judge with."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

from services.common.cpu import available_cpus
from tools.engines.subjects import Run, Tensors

NARROW = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT8E4M3FN})


def open_graph(graph: Path | bytes, threads: int | None = None) -> Run:
    """Return what computes an ONNX file, or its bytes, with all its outputs.

    A graph of narrow floats was made for a GPU: its Q/DQ nodes are computed one by one, as they stand. What ONNX
    Runtime otherwise makes of them for its own kernels is not in the graph: it rounds the biases, too, dividing them in
    half precision, where a bias of 7 over a small scale is infinite, and it moves 8-bit floats through nodes that do
    not take them.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _is_narrow(graph):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    source = graph if isinstance(graph, bytes) else str(graph)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Tensors) -> Tensors:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


def _is_narrow(graph: Path | bytes) -> bool:
    """Tell whether a graph holds numbers of fewer than 32 bits, integers aside."""
    if isinstance(graph, bytes):
        model = onnx.load_model_from_string(graph)
    else:
        model = onnx.load(graph, load_external_data=False)
    inside = (attribute.t for node in model.graph.node if node.op_type == "Constant" for attribute in node.attribute)
    return any(constant.data_type in NARROW for constant in (*model.graph.initializer, *inside))
