"""The scorer in Triton: one sequence of tokens after the other, in chunks, on the plain graph."""

import json
from pathlib import Path

import numpy as np
import openvino as ov
import triton_python_backend_utils as pb_utils

from .scoring import Scores, next_token_scores

ENGINE = "engine."


class TritonPythonModel:
    """input_ids [tokens] -> logprobs [tokens], top_ids and top_logprobs [tokens, 20]."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.context_length = int(parameters["context_length"])
        self.vocabulary_size = int(parameters["vocabulary_size"])
        self.chunk_tokens = int(parameters["chunk_tokens"])
        properties = {key.removeprefix(ENGINE): value for key, value in parameters.items() if key.startswith(ENGINE)}
        properties["INFERENCE_NUM_THREADS"] = int(parameters["threads"])
        graph = Path(args["model_repository"]) / args["model_version"] / "openvino_model.xml"
        self.request = ov.Core().compile_model(str(graph), "CPU", properties).create_infer_request()

    def execute(self, requests):
        """Score one request after the other; a faulty one is refused by itself."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        ids = pb_utils.get_input_tensor_by_name(request, "input_ids").as_numpy().astype(np.int64)
        if fault := self._fault(ids):
            return _failure(f"invalid argument: {fault}", pb_utils.TritonError.INVALID_ARG)
        scores = Scores(ids)
        self.request.reset_state()
        for start in range(0, len(ids), self.chunk_tokens):
            if request.is_cancelled():
                return _failure("cancelled", pb_utils.TritonError.CANCELLED)
            chunk = ids[start : start + self.chunk_tokens]
            scores.add(start, *next_token_scores(self._logits(chunk, start), ids[start + 1 : start + 1 + len(chunk)]))
        outputs = {"logprobs": scores.logprobs, "top_ids": scores.top_ids, "top_logprobs": scores.top_logprobs}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in outputs.items()])

    def _logits(self, chunk, start):
        """Return the logits [tokens, vocabulary] after each token of a chunk that follows `start` others."""
        end = start + len(chunk)
        inputs = {
            "input_ids": chunk[None],
            "attention_mask": np.ones((1, end), dtype=np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        return self.request.infer(inputs, share_inputs=True, share_outputs=True)["logits"][0]

    def _fault(self, ids):
        if not 0 < len(ids) <= self.context_length:
            return f"input_ids: {len(ids)} tokens are not between 1 and {self.context_length}"
        if ids.min() < 0 or ids.max() >= self.vocabulary_size:
            return f"input_ids: values must be between 0 and {self.vocabulary_size - 1}"
        return None


def _failure(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
