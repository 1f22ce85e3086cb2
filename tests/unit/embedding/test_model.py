import json
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf import text_format

from services.common.batcher import BatchLimits
from services.common.load import Load
from services.common.server import StartupError
from services.common.triton import model_config_pb2
from services.embedding.model import Encoder
from tests.unit.embedding.fakes import FACTS


class FakeTriton:
    def __init__(self):
        self.shapes = []

    async def infer(self, model, inputs, outputs, timeout):
        self.shapes.append(inputs["input_ids"].shape)
        assert all(array.dtype == np.int64 for array in inputs.values())
        return {"sentence_embedding": inputs["attention_mask"].sum(axis=1, keepdims=True).astype(np.float32)}


def encoder(triton, config=""):
    parsed = text_format.Parse(config, model_config_pb2.ModelConfig())
    return Encoder(triton, SimpleNamespace(triton_name="m", embedding=FACTS), parsed, 1.0)


async def test_rows_are_padded_and_masked():
    triton = FakeTriton()
    assert (await encoder(triton).encode([[5], [6, 7, 8]])).tolist() == [[1], [3]]
    assert triton.shapes == [(2, 3)]


async def test_rows_are_padded_to_the_next_length_that_has_a_cuda_graph():
    triton = FakeTriton()
    specs = [f'graph_spec {{ batch_size: 1 input {{ key: "input_ids" value {{ dim: [ {n} ] }} }} }}' for n in (16, 4)]
    graphed = encoder(triton, f"optimization {{ cuda {{ graphs: true {' '.join(specs)} }} }}")
    for length in (3, 4, 5, 17):
        assert (await graphed.encode([[5] * length])).tolist() == [[length]]
    assert triton.shapes == [(1, 4), (1, 4), (1, 16), (1, 17)]


@pytest.mark.parametrize(("profile", "cosine", "good"), [("cpu-int8", 0.95, True), ("tensorrt-fp16", 0.95, False)])
async def test_few_bits_may_be_further_from_the_original(profile, cosine, good):
    class Turned(FakeTriton):
        async def infer(self, model, inputs, outputs, timeout):
            return {"sentence_embedding": np.float32([[cosine, (1 - cosine**2) ** 0.5]])}

    config = f'parameters {{ key: "profile" value {{ string_value: "{profile}" }} }}'
    selftest = json.dumps({"cases": [{"text": "x", "token_ids": [1], "vector": [1, 0]}]})
    if good:
        await encoder(Turned(), config).prove(selftest)
    else:
        with pytest.raises(StartupError, match=r"cosine 0\.95"):
            await encoder(Turned(), config).prove(selftest)


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
