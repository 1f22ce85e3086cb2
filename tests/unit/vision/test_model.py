import numpy as np
import pytest

from services.common.contract import Contract, Tensor
from services.common.load import Load
from services.common.server import StartupError
from services.common.triton import model_config_pb2
from services.vision import model as graphs
from services.vision.meter import Meter

CONTRACT = Contract({"pixels": Tensor("UINT8", (48, -1, 3))}, {"characters": Tensor("INT32", (-1,))})


class FakeTriton:
    """Answers the sum of every column of a line and half of it."""

    def __init__(self):
        self.asked = []

    async def infer(self, name, inputs, outputs, timeout):
        pixels = inputs["pixels"]
        self.asked.append(pixels)
        sums = pixels[:, 0, :, 0].astype(np.int32)
        return {"characters": sums, "confidences": sums.astype(np.float32) / 2}


def config(kind=model_config_pb2.TYPE_INT32):
    made = model_config_pb2.ModelConfig(name="rec", max_batch_size=8)
    made.input.add(name="pixels", data_type=model_config_pb2.TYPE_UINT8, dims=[48, -1, 3])
    made.output.add(name="characters", data_type=kind, dims=[-1])
    return made


def graph(triton, profile="cpu-fp32"):
    made = config()
    made.parameters["profile"].string_value = profile
    return graphs.Graph(triton, made, CONTRACT, 1.0, Meter(Load(2)))


def line(width, value=9):
    return np.full((48, width, 3), value, np.uint8)


async def test_lines_are_padded_to_the_longest():
    triton = FakeTriton()
    short, long = await graphs.characters(graph(triton), [line(4), line(6)])
    assert triton.asked[0].shape == (2, 48, 6, 3)
    assert short[0].tolist() == [9, 9, 9, 9, graphs.LINE_PADDING, graphs.LINE_PADDING]
    assert long[1].tolist() == [4.5] * 6


def test_a_config_that_breaks_the_contract_stops_the_start():
    with pytest.raises(StartupError, match="rec"):
        graphs.Graph(FakeTriton(), config(model_config_pb2.TYPE_INT64), CONTRACT, 1.0, Meter(Load(1)))


async def test_the_warm_up_fills_every_slot_twice_and_learns_the_weight():
    triton = FakeTriton()
    warmed = graph(triton)
    await warmed.warm_up((8, 48, 320), 2)
    assert [pixels.shape for pixels in triton.asked] == [(8, 48, 320, 3)] * 4
    assert warmed.weight > 0


@pytest.mark.parametrize(
    ("expected", "fault"),
    [
        (np.full((1, 4), 9, np.int32), None),
        (np.full((1, 5), 9, np.int32), "shape"),
        (np.full((1, 4), 8, np.int32), "agree"),
    ],
)
async def test_the_self_test_compares_whole_numbers(tmp_path, expected, fault):
    np.savez(
        tmp_path / "x.npz", **{"in:pixels": line(4)[None], "out:characters": expected, "out:confidences": [[4.5] * 4]}
    )
    if fault is None:
        await graph(FakeTriton()).prove(tmp_path / "x.npz")
    else:
        with pytest.raises(StartupError, match=fault):
            await graph(FakeTriton()).prove(tmp_path / "x.npz")


async def test_the_self_test_compares_numbers_by_distance(tmp_path):
    for factor, good in ((1.001, True), (1.2, False), (-1, False), (float("nan"), False)):
        found = np.float32([[4.5, 4.5 * factor, 4.5, 4.5 * factor]])
        arrays = {"in:pixels": line(4)[None], "out:characters": np.full((1, 4), 9), "out:confidences": found}
        np.savez(tmp_path / "x.npz", **arrays)
        if good:
            await graph(FakeTriton()).prove(tmp_path / "x.npz")
        else:
            with pytest.raises(StartupError, match="distance"):
                await graph(FakeTriton()).prove(tmp_path / "x.npz")


async def test_the_self_test_of_few_bits_finds_what_is_broken_only(tmp_path):
    for found, good in (([4, 1, 9, 4], True), ([-4, -4, -4, 4], False), ([0] * 4, False), ([float("nan")] * 4, False)):
        arrays = {"in:pixels": line(4)[None], "out:characters": [[8] * 4], "out:confidences": np.float32([found])}
        np.savez(tmp_path / "x.npz", **arrays)
        if good:
            await graph(FakeTriton(), "cpu-int8").prove(tmp_path / "x.npz")
        else:
            with pytest.raises(StartupError, match="cosine"):
                await graph(FakeTriton(), "cpu-int8").prove(tmp_path / "x.npz")


async def test_the_self_test_of_few_bits_holds_the_shapes(tmp_path):
    arrays = {"in:pixels": line(4)[None], "out:characters": [[8] * 5], "out:confidences": [[4.5] * 4]}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(StartupError, match="shape"):
        await graph(FakeTriton(), "cpu-int8").prove(tmp_path / "x.npz")
