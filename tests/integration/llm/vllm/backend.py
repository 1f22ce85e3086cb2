"""A stand-in for Triton's vLLM backend, as `backends/vllm/model.py`: its tensors, its JSON, its errors, another engine.

What it computes with is the service's own engine on a CPU, named in stand_in.json beside this file. It follows
https://github.com/triton-inference-server/vllm_backend (src/model.py, src/utils/request.py) from outside: decoupled; a
prompt as text, tokenised by the tokenizer.json of model.json's model; sampling_parameters as JSON, in which
structured_outputs is JSON again; the ended answer's last token among its tokens; a request that cannot be taken gets
one reply "Error generating stream: ...".
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

ENGINE_ARGUMENTS = {
    "model", "dtype", "kv_cache_dtype", "enable_prefix_caching", "disable_log_stats", "structured_outputs_config",
    "max_logprobs", "seed", "tensor_parallel_size", "pipeline_parallel_size", "max_model_len", "max_num_seqs",
    "gpu_memory_utilization",
}  # fmt: skip
SAMPLING = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "seed", "ignore_eos")},
    **{name: name for name in ("frequency_penalty", "presence_penalty", "repetition_penalty")},
}
OTHERS = {"logprobs", "detokenize", "structured_outputs"}
REFUSED = "'NoneType' object has no attribute 'lora_name'"
"""What the backend says of sampling parameters that vLLM does not take."""
REASONS = {0: "None", 1: "stop", 2: "length"}


class TritonPythonModel:
    """text_input, sampling_parameters and flags -> a stream of text_output, finish_reason, logprobs, counts."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        assert pb_utils.using_decoupled_model_transaction_policy(config)
        self.arguments = json.loads((Path(pb_utils.get_model_dir()) / "model.json").read_text())
        if unknown := self.arguments.keys() - ENGINE_ARGUMENTS:
            raise TypeError(f"AsyncEngineArgs got an unexpected keyword argument {unknown}")
        assert self.arguments["disable_log_stats"] is False and "enforce_eager" not in self.arguments
        folder = Path(self.arguments["model"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.eos = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
        assert (folder / "model.safetensors").exists() and (folder / "config.json").exists()
        given = json.loads((Path(__file__).parent / "stand_in.json").read_text())
        sys.path.insert(0, given["code"])
        self.options, scheduler, pipeline, settings = (
            importlib.import_module(f"1.{name}") for name in ("options", "scheduler", "pipeline", "settings")
        )
        read = settings.read_settings(given["parameters"] | {"max_running": str(self.arguments["max_num_seqs"])})
        self.scheduler = scheduler.Scheduler(lambda: pipeline.Pipeline(given["engine"], read), read)
        self.request = scheduler.Request

    def execute(self, requests):
        for request in requests:
            stream = Stream(request, self.eos)
            try:
                self._take(request, stream)
            except Exception as error:
                stream.fail(str(error))

    def finalize(self):
        self.scheduler.close()

    def _take(self, request, stream):
        assert _given(request, "stream"), "this stand-in streams only"
        ids = self.tokenizer.encode(_given(request, "text_input").decode()).ids
        stream.input_tokens = len(ids)
        asked = json.loads(_given(request, "sampling_parameters"))
        if asked.keys() - SAMPLING - OTHERS or not 0 <= asked.get("seed", 0) < 2**63:
            raise ValueError(REFUSED)
        stream.alternatives = asked.get("logprobs")
        options = {SAMPLING[name]: value for name, value in asked.items() if name in SAMPLING} | {"logprobs": True}
        options["max_new_tokens"] = min(options["max_new_tokens"], self.arguments["max_model_len"] - len(ids))
        if "structured_outputs" in asked:
            options["grammar"] = json.loads(asked["structured_outputs"])["grammar"]
            stream.constrained = True
        taken = self.options.parse_options(json.dumps(options).encode())
        self.scheduler.submit(self.request(ids, taken.max_new_tokens, taken, stream))


class Stream:
    """The way back of one request."""

    def __init__(self, request, eos):
        self._sender, self._eos = request.get_response_sender(), eos
        self._flags = {name for name in FLAGS if _given(request, name)}
        self.input_tokens, self.alternatives, self.constrained = 0, None, False

    def send(self, ids, logprobs, finish, _cached):
        if finish == 1:
            ids, logprobs = [*ids, self._eos[-1]], [*logprobs, -0.5]
        entries = [self._entry(*one) for one in zip(ids, logprobs, strict=True)]
        tensors = {
            "finish_reason": np.asarray([REASONS[finish]], dtype=np.object_),
            "logprobs": np.asarray(
                [b"null" if self.alternatives is None else json.dumps(entries).encode()], dtype=np.object_
            ),
            "num_input_tokens": np.asarray(self.input_tokens, dtype=np.uint32),
            "num_output_tokens": np.asarray([len(ids)], dtype=np.uint32),
        }
        outputs = [pb_utils.Tensor("text_output", np.asarray([b""], dtype=np.object_))]
        outputs += [
            pb_utils.Tensor(name, tensor) for name, tensor in tensors.items() if f"return_{name}" in self._flags
        ]
        self._end(pb_utils.InferenceResponse(outputs), final=bool(finish))

    def fail(self, message):
        text = "Invalid grammar specification." if self.constrained else message
        error = pb_utils.TritonError(f"Error generating stream: {text}")
        output = pb_utils.Tensor("text_output", np.asarray(["N/A"], dtype=np.object_))
        self._end(pb_utils.InferenceResponse([output], error=error), final=True)

    def let_go(self):
        error = pb_utils.TritonError("Request was cancelled", pb_utils.TritonError.CANCELLED)
        self._end(pb_utils.InferenceResponse(error=error), final=True)

    def is_cancelled(self):
        return self._sender.is_cancelled()

    def _entry(self, number, logprob):
        """The chosen token first, then others that are less likely: this engine does not say which."""
        values = {number: logprob} | {(number + n) % 1000: logprob - n for n in range(1, self.alternatives or 0)}
        return {
            key: {"logprob": value, "rank": rank, "decoded_token": None}
            for rank, (key, value) in enumerate(values.items(), start=1)
        }

    def _end(self, response, *, final):
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)


FLAGS = tuple(f"return_{name}" for name in ("finish_reason", "logprobs", "num_input_tokens", "num_output_tokens"))


def _given(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()[0]
