"""The encoder on ONNX Runtime, one thread an instance. Knows tensors only; text and limits are the service's affair."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """input_ids, attention_mask [batch, length] int64 -> sentence_embedding [batch, 384] float32."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.max_length = int(parameters["max_sequence_length"])
        self.vocabulary = int(parameters["vocabulary_size"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        """Run all requests as one batch: Triton merges only requests of one length."""
        batches = [self._inputs(request) for request in requests]
        faults = [self._fault(ids, mask) for ids, mask in batches]
        good = [batch for batch, fault in zip(batches, faults, strict=True) if fault is None]
        vectors = iter(self._vectors(good))
        return [
            _refusal(fault)
            if fault
            else pb_utils.InferenceResponse([pb_utils.Tensor("sentence_embedding", next(vectors))])
            for fault in faults
        ]

    def _vectors(self, batches):
        if not batches:
            return []
        ids, mask = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        (rows,) = self.session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})
        borders = np.cumsum([len(batch_ids) for batch_ids, _ in batches])[:-1]
        return np.split(rows, borders)

    @staticmethod
    def _inputs(request):
        return tuple(
            pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("input_ids", "attention_mask")
        )

    def _fault(self, ids, mask):
        """Return what is wrong with a request that a raw client may have sent, or None."""
        length = ids.shape[1]
        if ids.shape != mask.shape:
            return f"attention_mask has shape {list(mask.shape)}, input_ids {list(ids.shape)}"
        if not 0 < length <= self.max_length:
            return f"input_ids: length {length} is not between 1 and {self.max_length}"
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            return f"input_ids: values must be between 0 and {self.vocabulary - 1}"
        if mask.min() < 0 or mask.max() > 1:
            return "attention_mask: values must be 0 or 1"
        if not mask.any(axis=1).all():
            return "attention_mask: a row has no token"
        return None


def _refusal(fault):
    error = pb_utils.TritonError(f"invalid argument: {fault}", pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=error)
