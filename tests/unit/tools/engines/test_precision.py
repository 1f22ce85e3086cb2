import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from services.common.cpu import weight_bits
from tests.unit.tools.engines.small_graph import calibration as calibration_batches
from tests.unit.tools.engines.small_graph import save, small_model, small_subject
from tools.cli.console import Problem
from tools.engines import calibration
from tools.engines.interface import interface
from tools.engines.precision import convert, precision_of
from tools.engines.recipes.graph_nodes import (
    after_the_last_weights,
    fit_half_precision,
    matching,
    spare_other_readers,
)


def _no_environment(extra: str) -> Path:
    raise AssertionError(f"asked for {extra}")


def _quiet(line: str) -> None:
    assert line


def _environment(tmp_path: Path, program: str) -> Path:
    """Return an interpreter that runs `program` whatever it is asked to run."""
    script = tmp_path / "program.py"
    script.write_text(program)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    python.chmod(0o755)
    return python


COPY = """
import json, shutil, sys
values = dict(zip(sys.argv[3::2], sys.argv[4::2]))
shutil.copy(values["--graph"], values["--out"])
versions = {"nvidia-modelopt": "9.9", "onnx": "1", "onnxruntime": "1"}
open(values["--out"].replace(".onnx", ".json"), "w").write(json.dumps({"versions": versions}))
print(values["--request"])
"""


@pytest.mark.parametrize("opset", [11, 17])
def test_cpu_int8_is_smaller_and_keeps_the_contract(tmp_path: Path, opset: int) -> None:
    subject = small_subject(save(small_model(opset), tmp_path / "model.onnx"))
    out = tmp_path / "int8.onnx"

    report = convert(subject, "cpu-int8", out, _no_environment, _quiet)

    assert interface(out) == interface(subject.graph)
    assert report.recipe.startswith("onnxruntime-static-int8 v1; onnxruntime ")
    assert report.size == out.stat().st_size
    assert report.calibration_sha256 == calibration.digest(calibration_batches())
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(out).graph.node)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.onnx", "model.onnx"]


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    subject = small_subject(save(small_model(), tmp_path / "model.onnx"))
    one, other = (
        convert(subject, "cpu-int8", tmp_path / name, _no_environment, _quiet) for name in ("one.onnx", "other.onnx")
    )
    assert one.sha256 == other.sha256


def test_an_encoder_is_quantised_without_calibration(tmp_path: Path) -> None:
    subject = small_subject(save(small_model(), tmp_path / "model.onnx"), "all_minilm_l6_v2")
    report = convert(subject, "cpu-int8", tmp_path / "int8.onnx", _no_environment, _quiet)
    assert "dynamic" in report.recipe
    assert report.calibration_sha256 == ""


def test_an_unknown_precision_names_the_choices(tmp_path: Path) -> None:
    subject = small_subject(save(small_model(), tmp_path / "model.onnx"))
    with pytest.raises(Problem, match="unknown precision 'int3'") as refusal:
        convert(subject, "int3", tmp_path / "out.onnx", _no_environment, _quiet)
    assert refusal.value.next_step == "choose one of: fp16, int8, fp8, cpu-int8"


def test_a_recipe_with_an_environment_runs_there(tmp_path: Path) -> None:
    subject = small_subject(save(small_model(), tmp_path / "model.onnx"))
    python, lines, asked = _environment(tmp_path, COPY), [], []

    def interpreter(extra: str) -> Path:
        asked.append(extra)
        return python

    report = convert(subject, "int8", tmp_path / "out.onnx", interpreter, lines.append)

    assert asked == ["engines-precision"]
    assert "nvidia-modelopt 9.9" in report.recipe
    assert any('"precision": "int8"' in line for line in lines)


def test_what_the_quantiser_refuses_is_one_line(tmp_path: Path) -> None:
    subject = small_subject(save(small_model(), tmp_path / "model.onnx"))
    python = _environment(tmp_path, "import sys\nprint('busy')\nsys.exit('refused: no kernel for Swoosh')\n")
    with pytest.raises(Problem, match="modelopt-autocast-fp16 cannot convert the graph: no kernel for Swoosh"):
        convert(subject, "fp16", tmp_path / "out.onnx", lambda _: python, _quiet)
    assert not (tmp_path / "out.onnx").exists()


def test_a_conversion_that_breaks_the_contract_is_refused(tmp_path: Path) -> None:
    other = small_model()
    other.graph.output[0].name = other.graph.node[-1].output[0] = "scores"
    broken = save(other, tmp_path / "broken.onnx")
    subject = small_subject(save(small_model(), tmp_path / "model.onnx"))
    python = _environment(tmp_path, COPY.replace('values["--graph"]', repr(str(broken))))
    with pytest.raises(Problem, match="breaks its contract"):
        convert(subject, "fp8", tmp_path / "out.onnx", lambda _: python, _quiet)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("profile", "precision"),
    [
        ("cpu-fp32", None),
        ("cpu-int8", "cpu-int8"),
        ("onnxruntime-cuda-fp16", "fp16"),
        ("tensorrt-fp16", "fp16"),
        ("tensorrt-int8", "int8"),
        ("tensorrt-fp8", "fp8"),
    ],
)
def test_profiles_name_their_precision(profile: str, precision: str | None) -> None:
    assert precision_of(profile) == precision


def test_a_profile_without_graphs_is_refused() -> None:
    with pytest.raises(Problem, match="vllm-bf16-tp1"):
        precision_of("vllm-bf16-tp1")


@pytest.mark.parametrize(
    ("flags", "bits"), [("flags\t: sse avx2", 7), ("flags\t: avx2 avx512_vnni", 8), ("Features\t: asimd", 8)]
)
def test_weights_have_seven_bits_where_sums_would_overflow(tmp_path: Path, flags: str, bits: int) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\n{flags}\n")
    assert weight_bits(info) == bits


def test_calibration_data_has_a_digest_of_its_content(tmp_path: Path) -> None:
    batches = list(calibration_batches())
    calibration.save(batches, tmp_path / "data.npz")
    assert calibration.digest(calibration.load(tmp_path / "data.npz")) == calibration.digest(batches)
    assert calibration.digest(reversed(batches)) != calibration.digest(batches)


def test_a_mask_of_infinity_fits_half_precision() -> None:
    model = small_model()
    lowest = np.array(np.finfo(np.float32).min)
    model.graph.initializer.append(numpy_helper.from_array(lowest, "mask"))
    model.graph.node.append(
        helper.make_node("Constant", [], ["other_mask"], "mask", value=numpy_helper.from_array(-lowest))
    )
    before = [numpy_helper.to_array(one) for one in model.graph.initializer[:-1]]

    fit_half_precision(model.graph)

    found = [numpy_helper.to_array(one) for one in model.graph.initializer]
    assert all((one == other).all() for one, other in zip(before, found, strict=False))
    assert found[-1] == -60_000
    assert numpy_helper.to_array(model.graph.node[-1].attribute[0].t) == 60_000


def test_what_follows_the_last_weights_is_found() -> None:
    model = small_model()
    model.graph.node.append(helper.make_node("Relu", ["logits"], ["positive"], "after/relu"))
    assert after_the_last_weights(model.graph) == {"after/relu"}
    assert matching(["layer/first", "layer/second", "first"], ["layer/f.*"]) == {"layer/first"}


def test_only_chosen_operators_read_what_was_rounded() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "scale"], ["x_dq"]),
        helper.make_node("MatMul", ["x_dq", "weight"], ["product"]),
        helper.make_node("Add", ["product", "x_dq"], ["sum"]),
    ]
    graph = helper.make_graph(nodes, "residual", [], [])

    spare_other_readers(graph, ["MatMul"])

    assert [list(node.input) for node in graph.node[2:]] == [["x_dq", "weight"], ["product", "x"]]
