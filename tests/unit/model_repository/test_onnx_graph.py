"""The model code that all vision graphs share, with Triton's own module replaced."""

import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from services.common.runtime_repository import MODEL_REPOSITORY
from tests.unit.tools.model_preparation.tiny_vision import mean_of_planes
from tools.export.graphs import give, save, take_pixels


class FakeError(Exception):
    INVALID_ARG = 3

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class FakeTensor:
    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> np.ndarray:
        return self.values


def respond(tensors: list[FakeTensor] | None = None, error: FakeError | None = None) -> SimpleNamespace:
    return SimpleNamespace(outputs={tensor.name: tensor.values for tensor in tensors or []}, error=error)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Give a function that starts the model on a graph that gives the mean of the colours."""
    triton = SimpleNamespace(
        Tensor=FakeTensor,
        TritonError=FakeError,
        InferenceResponse=respond,
        get_input_tensor_by_name=lambda request, name: request[name],
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    spec = importlib.util.spec_from_file_location("onnx_graph", MODEL_REPOSITORY / "onnx_graph.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    graph = mean_of_planes()
    take_pixels(graph, "height", "width")
    squeeze = helper.make_node("Squeeze", ["mean"], ["brightness"], axes=[1])
    give(graph, [squeeze], {"brightness": (TensorProto.FLOAT, ("batch", "height", "width"))})
    (tmp_path / "1").mkdir()
    save(graph, tmp_path / "1" / "model.onnx")

    models = []

    def started(**limits: int) -> Any:
        config = {
            "input": [{"name": "pixels"}],
            "output": [{"name": "brightness"}],
            "parameters": {key: {"string_value": str(value)} for key, value in limits.items()},
        }
        model = module.TritonPythonModel()
        arguments = {"model_config": json.dumps(config), "model_repository": str(tmp_path), "model_version": "1"}
        # The first session that takes denormal numbers for zero makes the thread it is made in do so from then on.
        with ThreadPoolExecutor(1) as apart:
            apart.submit(model.initialize, arguments).result()
        models.append(model)
        return model

    yield started
    for model in models:
        model.finalize()


def pictures(count: int, height: int = 8, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def run(model: Any, *batches: np.ndarray) -> list[SimpleNamespace]:
    return list(model.execute([{"pixels": FakeTensor("pixels", batch)} for batch in batches]))


@pytest.mark.parametrize("limits", [{}, {"pixels_at_once": 128}, {"pixels_at_once": 1}, {"pixels_kept": 1}])
def test_every_request_of_a_batch_gets_its_own_rows(start: Callable[..., Any], limits: dict[str, int]) -> None:
    batches = [pictures(count, seed=count) for count in (1, 3, 2)]
    for batch, response in zip(batches, run(start(**limits), *batches), strict=True):
        assert np.allclose(response.outputs["brightness"], batch.mean(axis=3), rtol=1e-5)


@pytest.mark.parametrize(
    ("limits", "shape", "message"),
    [
        ({"multiple_of": 32}, (32, 33), "32 x 33 pixels are not multiples of 32"),
        ({"max_side": 16}, (8, 17), "8 x 17 pixels; the longest side may have 16"),
        ({"max_pixels": 100}, (11, 10), "11 x 10 pixels are more than 100"),
        ({}, (0, 8), r"shape \[1, 0, 8, 3\] is empty"),
    ],
)
def test_a_bad_size_is_the_callers_fault(
    start: Callable[..., Any], limits: dict[str, int], shape: tuple[int, int], message: str
) -> None:
    model = start(**limits)
    (response,) = run(model, pictures(1, *shape))
    assert response.error.code == FakeError.INVALID_ARG
    with pytest.raises(FakeError, match=message):
        raise response.error


def test_once_nothing_comes_memory_is_given_back_by_a_run_of_the_smallest_picture(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, emptied, sizes = start(), threading.Semaphore(0), []
    monkeypatch.setitem(model.execute.__globals__, "IDLE_SECONDS", 0.01)
    empty = model.rest._act

    def watched() -> None:
        sizes.append(model.least.shape)
        empty()
        emptied.release()

    monkeypatch.setattr(model.rest, "_act", watched)
    for side in (64, 8, 16):
        batch = pictures(2, side, side)
        (response,) = run(model, batch)
        emptied.acquire()
        assert np.allclose(response.outputs["brightness"], batch.mean(axis=3), rtol=1e-5)
    assert sizes == [(1, 64, 64, 3), (1, 8, 8, 3), (1, 8, 8, 3)]
