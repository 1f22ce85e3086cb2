"""The tokenizer of the text ensemble: UTF-8 text in, padded token ids and attention mask out."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer


class TritonPythonModel:
    """text [batch, 1] BYTES -> input_ids, attention_mask [batch, longest] int64."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(int(config["parameters"]["max_tokens"]["string_value"]))
        self.tokenizer.enable_padding()

    def execute(self, requests):
        """Tokenise each request by itself; text that is not UTF-8 fails that request only."""
        return [self._respond(pb_utils.get_input_tensor_by_name(request, "text").as_numpy()) for request in requests]

    def _respond(self, texts):
        try:
            rows = self.tokenizer.encode_batch([text.decode() for text in texts.ravel()])
        except UnicodeDecodeError:
            error = pb_utils.TritonError("invalid argument: text: not valid UTF-8", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        ids = np.array([row.ids for row in rows], dtype=np.int64)
        mask = np.array([row.attention_mask for row in rows], dtype=np.int64)
        return pb_utils.InferenceResponse([pb_utils.Tensor("input_ids", ids), pb_utils.Tensor("attention_mask", mask)])
