"""Graphs on ONNX Runtime's CPU provider, to calibrate and to judge with."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from services.common.cpu import available_cpus
from tools.engines.subjects import Run, Tensors


def open_graph(graph: Path | bytes, threads: int | None = None) -> Run:
    """Return what computes an ONNX file, or its bytes, with all its outputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = graph if isinstance(graph, bytes) else str(graph)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Tensors) -> Tensors:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run
