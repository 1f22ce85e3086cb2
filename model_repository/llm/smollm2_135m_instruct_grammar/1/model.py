"""The grammar check in Triton: one grammar after the other, verdicts remembered."""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .compiler import GrammarCompiler


class TritonPythonModel:
    """grammar [bytes] -> fault [bytes], empty when there is none."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.max_bytes, self.remembered = int(parameters["max_bytes"]), int(parameters["remembered"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.compiler = GrammarCompiler(folder, int(parameters["threads"]), int(parameters["max_milliseconds"]) / 1000)
        self.verdicts = OrderedDict()

    def execute(self, requests):
        """Check one grammar after the other."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        if request.is_cancelled():
            error = pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
            return pb_utils.InferenceResponse(error=error)
        grammar = pb_utils.get_input_tensor_by_name(request, "grammar").as_numpy().tobytes()
        fault = np.frombuffer(self._verdict(grammar).encode(), dtype=np.uint8)
        return pb_utils.InferenceResponse([pb_utils.Tensor("fault", fault)])

    def _verdict(self, grammar):
        if not grammar.strip():
            return "the grammar is empty"
        if len(grammar) > self.max_bytes:
            return f"the grammar has {len(grammar)} bytes; the limit is {self.max_bytes}"
        try:
            text = grammar.decode()
        except UnicodeDecodeError:
            return "the grammar is not UTF-8"
        if "\0" in text:
            return "the grammar contains a zero character"
        if text not in self.verdicts:
            self.verdicts[text] = self.compiler.fault(text)
        self.verdicts.move_to_end(text)
        while len(self.verdicts) > self.remembered:
            self.verdicts.popitem(last=False)
        return self.verdicts[text]
