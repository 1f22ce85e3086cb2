from types import SimpleNamespace

import numpy as np
import pytest

from services.common.batcher import BatchLimits
from services.common.load import Load
from services.embedding.model import Encoder
from tests.unit.embedding.fakes import FACTS


class FakeTriton:
    def __init__(self):
        self.shapes = []

    async def infer(self, model, inputs, outputs, timeout):
        self.shapes.append(inputs["input_ids"].shape)
        assert all(array.dtype == np.int64 for array in inputs.values())
        return {"sentence_embedding": inputs["attention_mask"].sum(axis=1, keepdims=True).astype(np.float32)}


def encoder(triton):
    return Encoder(triton, SimpleNamespace(triton_name="m", embedding=FACTS), 1.0)


async def test_rows_are_padded_and_masked():
    triton = FakeTriton()
    assert (await encoder(triton).encode([[5], [6, 7, 8]])).tolist() == [[1], [3]]
    assert triton.shapes == [(2, 3)]


@pytest.mark.parametrize(
    ("limits", "shape"),
    [
        (BatchLimits(16, 4096, 2), (16, 64)),
        (BatchLimits(16, 160, 1), (16, 10)),
        (BatchLimits(32, 16, 1), (32, 1)),
    ],
)
async def test_after_the_warm_up_capacity_is_known(limits, shape):
    triton, load = FakeTriton(), Load(limits.slots)
    await encoder(triton).warm_up(limits, load)
    assert triton.shapes == [shape] * 2 * limits.slots
    assert load.capacity > 0
