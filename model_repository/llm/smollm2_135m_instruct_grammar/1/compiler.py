"""The engine's grammar compiler, reached through an engine on a tiny random model."""

import re
import time

import numpy as np
import openvino as ov
import openvino_genai as genai

_PLACE = re.compile(r"^(Exception from \S+|Check '.*' failed at \S+|\[\d\d:\d\d:\d\d\]) ?\S*:\d+:\s*")
MOST_CHARACTERS = 300


class GrammarCompiler:
    """Compiles grammars to see what is wrong with them."""

    def __init__(self, folder, threads, max_seconds):
        self._folder, self._threads, self._max_seconds = folder, threads, max_seconds
        self._engine = self._build()
        self._number = 0
        self.fault('root ::= "a"')  # the first is slow: the vocabulary is read

    def fault(self, grammar):
        """Return what is wrong with a grammar, empty when nothing is."""
        began = time.process_time()  # a loaded machine must not change the verdict
        reason = self._compile(grammar)
        seconds = time.process_time() - began
        if not reason and seconds > self._max_seconds and self._number > 1:
            return f"the grammar takes {seconds:.1f} s of computing to compile; the limit is {self._max_seconds:.1f} s"
        return reason

    def _compile(self, grammar):
        self._number += 1
        config = genai.GenerationConfig()
        config.eos_token_id, config.max_new_tokens = 0, 1
        config.structured_output_config = genai.StructuredOutputConfig(grammar=grammar)
        try:
            handle = self._engine.add_request(self._number, ov.Tensor(np.array([[0]], dtype=np.int64)), config)
            self._engine.step()
        except Exception as error:
            self._engine = self._build()
            return _reason(error)
        handle.cancel()
        while self._engine.has_non_finished_requests():
            self._engine.step()
        return ""

    def _build(self):
        scheduling = genai.SchedulerConfig()
        scheduling.num_kv_blocks = 8
        return genai.ContinuousBatchingPipeline(
            str(self._folder), scheduling, "CPU", {"INFERENCE_NUM_THREADS": self._threads}
        )


def _reason(error):
    """Return the last line that says something, without places in the engine's source."""
    lines = [_PLACE.sub("", line.strip()) for line in str(error).splitlines()]
    return ([line for line in lines if line] or [type(error).__name__])[-1][:MOST_CHARACTERS]
