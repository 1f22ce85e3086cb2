"""The encoder in Triton. The only file of the service that knows tensor names, shapes and dtypes."""

import asyncio
import json
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.common.batcher import BatchLimits
from services.common.contract import Contract, Tensor
from services.common.load import Load
from services.common.manifest import Model
from services.common.profiles import is_quantised
from services.common.server import StartupError
from services.common.triton import TritonClient, model_config_pb2

INPUT_IDS, ATTENTION_MASK, TEXT, OUTPUT = "input_ids", "attention_mask", "text", "sentence_embedding"
SELF_TEST_COSINE, QUANTISED_COSINE = 0.999, 0.9
"""Least cosine to the original's vectors. How near graphs of few bits are is for the accuracy gate that they passed."""
WARM_UP_TOKENS = 64

Vectors = NDArray[np.float32]


def contracts(model: Model) -> dict[str, Contract]:
    """Return the contracts of the encoder, its tokenizer and the text ensemble, by Triton model name."""
    assert model.embedding is not None  # noqa: S101  # the manifest checks it
    ids = {INPUT_IDS: Tensor("INT64", (-1,)), ATTENTION_MASK: Tensor("INT64", (-1,))}
    text = {TEXT: Tensor("BYTES", (1,))}
    vectors = {OUTPUT: Tensor("FP32", (model.embedding.dimensions,))}
    name = model.triton_name
    return {
        name: Contract(ids, vectors),
        f"{name}_tokenizer": Contract(text, ids),
        f"{name}_text": Contract(text, vectors),
    }


class Encoder:
    """Token ids in, vectors out."""

    def __init__(
        self, triton: TritonClient, model: Model, config: model_config_pb2.ModelConfig, timeout: float
    ) -> None:
        """`config` is the encoder's, `timeout` in seconds bounds one batch."""
        assert model.embedding is not None  # noqa: S101
        self._least_cosine = QUANTISED_COSINE if is_quantised(config) else SELF_TEST_COSINE
        specs = config.optimization.cuda.graph_spec
        self._lengths = sorted({spec.input[INPUT_IDS].dim[0] for spec in specs if INPUT_IDS in spec.input})
        self._triton, self._name, self._timeout = triton, model.triton_name, timeout
        self._pad, self._max_tokens = model.embedding.pad_token_id, model.embedding.max_tokens

    async def encode(self, rows: Sequence[Sequence[int]]) -> Vectors:
        """Return L2-normalised vectors [rows, dimensions] float32 for token ids of any lengths, padded on the right.

        Where there are CUDA graphs, they are for certain lengths, and padding to the next one is cheaper than launching
        kernel by kernel.
        """
        longest = max(map(len, rows))
        longest = next((length for length in self._lengths if length >= longest), longest)
        ids = np.full((len(rows), longest), self._pad, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        inputs = {INPUT_IDS: ids, ATTENTION_MASK: mask}
        return (await self._triton.infer(self._name, inputs, [OUTPUT], self._timeout))[OUTPUT]

    async def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of the text ensemble, for the self-test."""
        inputs = {TEXT: np.array([[text.encode()] for text in texts], dtype=np.object_)}
        return (await self._triton.infer(f"{self._name}_text", inputs, [OUTPUT], self._timeout))[OUTPUT]

    async def prove(self, selftest: str) -> None:
        """Run the known texts of the export's selftest.json (its content) through encoder and ensemble and compare.

        Raises StartupError when a vector is off: a wrong NumPy, say, makes Triton return empty tensors silently.
        """
        samples = json.loads(selftest)["cases"]
        expected = np.array([sample["vector"] for sample in samples], dtype=np.float32)
        for path, vectors in (
            ("encoder", await self.encode([sample["token_ids"] for sample in samples])),
            ("ensemble", await self.encode_text([sample["text"] for sample in samples])),
        ):
            if vectors.shape != expected.shape:
                raise StartupError(f"self-test: the {path} of '{self._name}' returned shape {vectors.shape}")
            cosine = float((vectors * expected).sum(axis=1).min())
            if not cosine >= self._least_cosine:
                raise StartupError(f"self-test: the {path} of '{self._name}' is off (cosine {cosine:.5f})")

    async def warm_up(self, limits: BatchLimits, load: Load) -> None:
        """Run full batches on every slot and tell `load` how long they took, so that capacity is known from the start.

        The first round is not counted: engines allocate their memory in it.
        """
        length = max(1, min(WARM_UP_TOKENS, self._max_tokens, limits.padded_length // limits.items))
        rows = [[self._pad] * length] * limits.items

        async def batch(counted: bool) -> None:
            began = time.monotonic()
            await self.encode(rows)
            if counted:
                load.worked(limits.items * length, time.monotonic() - began)

        for counted in (False, True):
            await asyncio.gather(*(batch(counted) for _ in range(limits.slots)))
