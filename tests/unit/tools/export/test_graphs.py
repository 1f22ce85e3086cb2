from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.unit.tools.model_preparation.tiny_vision import PIXELS, mean_of_planes
from tools.export.command import ExportRefusedError
from tools.export.graphs import add_constant, compute, give, prove, save, take_pixels
from tools.export.selftest import read_selftest


def planes_out(path: Path, **options: object) -> np.ndarray:
    """Run a graph that hands out what it is fed."""
    planes = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    graph = helper.make_graph([], "nothing", [planes], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    take_pixels(model, "height", "width", **options)  # type: ignore[arg-type]
    shape = ("batch", 3, "height", "width")
    give(model, [helper.make_node("Identity", ["x"], ["planes"])], {"planes": (TensorProto.FLOAT, shape)})
    save(model, path)
    return compute(path, {"pixels": PIXELS})["planes"]


def test_pixels_become_planes(tmp_path: Path) -> None:
    assert np.array_equal(planes_out(tmp_path / "g.onnx"), PIXELS.transpose(0, 3, 1, 2).astype(np.float32))


def test_pixels_are_scaled_and_shifted_and_their_planes_turned_round(tmp_path: Path) -> None:
    found = planes_out(tmp_path / "g.onnx", scale=2 / 255, shift=-1, bgr=True)
    expected = (PIXELS[..., ::-1].astype(np.float32) / 255 - 0.5) / 0.5
    assert np.allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert found.min() >= -1 and found.max() <= 1


def test_a_graph_whose_constants_are_among_its_inputs(tmp_path: Path) -> None:
    model = mean_of_planes()
    for name in ("gain", "unused"):
        add_constant(model, name, np.array(2, dtype=np.float32))
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    take_pixels(model, "height", "width")
    shape = ("batch", 1, "height", "width")
    give(model, [helper.make_node("Mul", ["mean", "gain"], ["twice"])], {"twice": (TensorProto.FLOAT, shape)})
    save(model, tmp_path / "g.onnx")
    written = onnx.load(tmp_path / "g.onnx")
    assert [tensor.name for tensor in written.graph.input] == ["pixels"]
    assert [constant.name for constant in written.graph.initializer] == ["gain"]
    found = compute(tmp_path / "g.onnx", {"pixels": PIXELS})["twice"]
    assert np.allclose(found[:, 0], 2 * PIXELS.mean(axis=3), rtol=1e-5)


def test_proof_writes_the_selftest_and_refuses_another_result(tmp_path: Path) -> None:
    model = mean_of_planes()
    take_pixels(model, "height", "width")
    shape = ("batch", 1, "height", "width")
    give(model, [helper.make_node("Identity", ["mean"], ["out"])], {"out": (TensorProto.FLOAT, shape)})
    save(model, tmp_path / "g.onnx")
    expected = PIXELS.mean(axis=3, dtype=np.float32)[:, None]
    assert prove(tmp_path / "g.onnx", {"pixels": PIXELS}, {"out": expected}) < 1e-3
    inputs, outputs = read_selftest(tmp_path / "g.selftest.npz")
    assert np.array_equal(inputs["pixels"], PIXELS) and np.array_equal(outputs["out"], expected)
    with pytest.raises(ExportRefusedError, match=r"g\.onnx differs from the original: out agrees in 0\.00%"):
        prove(tmp_path / "g.onnx", {"pixels": PIXELS}, {"out": expected + 1})
