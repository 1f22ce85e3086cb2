"""The engine in Triton: tensors to requests, tokens to responses. The work is the scheduler's."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .options import InvalidRequestError, check_prompt, parse_options
from .pipeline import Pipeline
from .prefixes import BLOCK_TOKENS
from .scheduler import Request, Scheduler
from .settings import read_settings

SPARE_BLOCKS = 2
"""Blocks that no single request may count on."""


class TritonPythonModel:
    """input_ids [tokens], options [bytes] -> a stream of output_ids, logprobs, state; or the statistics."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.settings = read_settings({key: value["string_value"] for key, value in config["parameters"].items()})
        folder = Path(args["model_repository"]) / args["model_version"]
        self.limit = min(self.settings.context_length, (self.settings.kv_blocks - SPARE_BLOCKS) * BLOCK_TOKENS)
        self.scheduler = Scheduler(lambda: Pipeline(folder, self.settings), self.settings)

    def execute(self, requests):
        """Hand every request to the scheduler, which answers later; a faulty one is refused by itself."""
        for request in requests:
            stream = Stream(request.get_response_sender())
            try:
                self._take(request, stream)
            except InvalidRequestError as error:
                stream.refuse(str(error))

    def finalize(self):
        """Stop the scheduler."""
        self.scheduler.close()

    def _take(self, request, stream):
        ids = pb_utils.get_input_tensor_by_name(request, "input_ids").as_numpy()
        options = parse_options(pb_utils.get_input_tensor_by_name(request, "options").as_numpy().tobytes())
        if ids.size == 0:
            stream.send([], [], 1, 0, self.scheduler.statistics())
            return
        new_tokens = check_prompt(ids, options, self.settings.vocabulary_size, self.limit)
        self.scheduler.submit(Request(ids.tolist(), new_tokens, options, stream))


class Stream:
    """The way back of one request."""

    def __init__(self, sender):
        self._sender = sender

    def send(self, ids, logprobs, finish, cached, statistics=()):
        """Send one response; any but finish 0 is the last."""
        tensors = [
            pb_utils.Tensor("output_ids", np.array(ids, dtype=np.int32)),
            pb_utils.Tensor("logprobs", np.array(logprobs or [0.0] * len(ids), dtype=np.float32)),
            pb_utils.Tensor("state", np.array([finish, cached], dtype=np.int32)),
            pb_utils.Tensor("statistics", np.array(statistics, dtype=np.float32)),
        ]
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if finish else 0
        self._sender.send(pb_utils.InferenceResponse(tensors), flags=final)

    def fail(self, message):
        """End the stream: the engine could not answer."""
        self._end(pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL))

    def refuse(self, message):
        """End the stream: the request is faulty."""
        self._end(pb_utils.TritonError(f"invalid argument: {message}", pb_utils.TritonError.INVALID_ARG))

    def let_go(self):
        """End the stream: the request was cancelled."""
        self._end(pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED))

    def is_cancelled(self):
        """Whether nobody waits for the answer any more."""
        return self._sender.is_cancelled()

    def _end(self, error):
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        self._sender.send(pb_utils.InferenceResponse(error=error), flags=final)
