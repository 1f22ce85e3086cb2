"""The exported graph on OpenVINO, with the settings that serving uses. Needs openvino and numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "KV_CACHE_PRECISION": "f32",
}
"""With these an answer does not depend on what else is in the batch."""
INPUTS = {"input_ids": "i64", "attention_mask": "i64", "position_ids": "i64", "beam_idx": "i32"}


class Graph:
    """One stateful graph that follows one sequence at a time."""

    def __init__(self, path: Path) -> None:
        """Raises RuntimeError or ValueError when the file is not such a graph."""
        import openvino  # noqa: PLC0415 - slow to import

        compiled = openvino.Core().compile_model(str(path), "CPU", EXACT)
        inputs = {tensor.any_name: tensor.element_type.get_type_name() for tensor in compiled.inputs}
        if inputs != INPUTS or "logits" not in {tensor.any_name for tensor in compiled.outputs}:
            raise ValueError(f"inputs are {inputs}, expected {INPUTS} and the output logits")
        self.vocabulary = int(compiled.output("logits").partial_shape[2].get_length())
        self._request: Any = compiled.create_infer_request()
        self._seen = 0

    def restart(self) -> None:
        """Forget the sequence."""
        self._request.reset_state()
        self._seen = 0

    def follow(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits [tokens, vocabulary] after each of the next tokens of the sequence."""
        count = len(ids)
        result = self._request.infer(
            {
                "input_ids": np.asarray([ids], dtype=np.int64),
                "attention_mask": np.ones((1, self._seen + count), dtype=np.int64),
                "position_ids": np.arange(self._seen, self._seen + count, dtype=np.int64)[None],
                "beam_idx": np.zeros(1, dtype=np.int32),
            }
        )
        self._seen += count
        return np.array(result["logits"][0], dtype=np.float32)

    def greedy(self, prompt: Sequence[int], count: int, ends: Sequence[int]) -> list[int]:
        """Return up to `count` tokens, each the most likely one; a token of `ends` ends the answer, left out."""
        self.restart()
        answer: list[int] = []
        logits = self.follow(prompt)
        while len(answer) < count:
            token = int(logits[-1].argmax())
            if token in ends:
                break
            answer.append(token)
            logits = self.follow([token])
        return answer
