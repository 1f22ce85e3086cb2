from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.unit.tools.engines.small_graph import save, small_model
from tools.cli.console import Problem
from tools.engines.lint import check, lint


def _output_like_a_node(model: onnx.ModelProto) -> None:
    model.graph.node[-1].name = "logits"


def _output_like_a_scope(model: onnx.ModelProto) -> None:
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "/logits/first"


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node[3].output[0] = "first"


def _missing_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "scores"


def _unnamed_axis(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].Clear()


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _half_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Swoosh"


def _foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.example"


def _loop(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "NonZero"


def _dice(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "RandomNormalLike"


def _old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 7


def _too_new(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def _elsewhere(model: onnx.ModelProto) -> None:
    constant = model.graph.initializer[0]
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="weights.bin")


def _misfit(model: onnx.ModelProto) -> None:
    model.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.zeros((5, 23), np.float32), "head_weight"))


@pytest.mark.parametrize(
    ("spoil", "rule", "words"),
    [
        (_output_like_a_node, "unique-names", "output 'logits' has the name of a node"),
        (_output_like_a_scope, "unique-names", "output 'logits' is named like an inner value: '/logits/first'"),
        (_twice, "unique-names", "'first' is the name of 2 tensors"),
        (_missing_output, "unique-names", "no node makes the output 'scores'"),
        (_unnamed_axis, "named-axes", "axis 1 of output 'logits' has neither a length nor a name"),
        (_fixed_batch, "named-axes", "the first axis of input 'pixels' is no free batch"),
        (_half_input, "plain-dtypes", "input 'pixels' is float16"),
        (_unknown_operator, "operators", "operator 'Swoosh' of node 'layer/first_active' is unknown in opset 17"),
        (_foreign_operator, "operators", "of the domain 'com.example'"),
        (_loop, "operators", "operator 'NonZero' of node 'layer/first_active' is not supported"),
        (_dice, "operators", "other results in every run"),
        (_old, "opset", "opset 7; at least"),
        (_too_new, "opset", "opset 999 is newer than"),
        (_elsewhere, "external-data", "'first_weight' lies in another file ('weights.bin')"),
        (_misfit, "valid", "layer/head"),
    ],
)
def test_every_fault_is_named(tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], rule: str, words: str) -> None:
    model = small_model()
    spoil(model)
    path = save(model, tmp_path / "model.onnx")

    faults = lint(path)

    assert any(one.rule == rule and words in one.message for one in faults), faults
    with pytest.raises(Problem, match=r"model\.onnx: "):
        check(path)


def test_a_good_graph_has_no_faults(tmp_path: Path) -> None:
    path = save(small_model(), tmp_path / "model.onnx")
    assert lint(path) == ()
    check(path)


@pytest.mark.parametrize("content", [b"", b"not a graph at all", b"\x08\x08\x12"])
def test_a_corrupt_file_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(Problem) as refusal:
        check(path)
    assert "is no ONNX file, or cut short" in refusal.value.message
    assert "\n" not in refusal.value.message


def test_a_graph_cut_short_is_named(tmp_path: Path) -> None:
    path = save(small_model(), tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:3000])
    assert "cut short" in lint(path)[0].message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert lint(tmp_path / "model.onnx")[0].message == "cannot be read: No such file or directory"


def test_a_value_that_only_begins_like_the_output_is_no_fault(tmp_path: Path) -> None:
    model = small_model()
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "logits_before"
    assert lint(save(model, tmp_path / "model.onnx")) == ()
