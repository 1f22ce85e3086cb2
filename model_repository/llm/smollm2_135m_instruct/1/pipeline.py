"""OpenVINO GenAI's continuous batching behind few methods. The only file that knows it; all of one thread."""

import secrets

import numpy as np
import openvino as ov
import openvino_genai as genai

ENDED, LIMITED = 1, 2
REASONS = {genai.GenerationFinishReason.STOP: ENDED, genai.GenerationFinishReason.LENGTH: LIMITED}


class Pipeline:
    """One engine: what is added is worked on with every step."""

    def __init__(self, folder, settings):
        scheduling = genai.SchedulerConfig()
        scheduling.num_kv_blocks = settings.kv_blocks
        scheduling.max_num_batched_tokens = settings.max_batched_tokens
        scheduling.max_num_seqs = settings.max_running
        scheduling.enable_prefix_caching = True
        properties = {"INFERENCE_NUM_THREADS": settings.threads, **settings.engine}
        self._engine = genai.ContinuousBatchingPipeline(str(folder), scheduling, "CPU", properties)
        self._eos = settings.eos_token_ids
        self._last = 0

    def add(self, ids, max_new_tokens, options):
        """Return the handle of a new request; it lives as long as the handle."""
        self._last += 1  # the engine takes the same number twice without a word, and breaks later
        tensor = ov.Tensor(np.asarray(ids, dtype=np.int64)[None])
        return Handle(self._engine.add_request(self._last, tensor, self._config(max_new_tokens, options)), self._eos)

    def step(self):
        """Compute the next tokens. Holds the interpreter lock all the time."""
        self._engine.step()

    def is_busy(self):
        """Whether there is anything left to compute."""
        return self._engine.has_non_finished_requests()

    def _config(self, max_new_tokens, options):
        config = genai.GenerationConfig()
        config.eos_token_id = min(self._eos)
        config.stop_token_ids = set(self._eos)
        config.ignore_eos = options.ignore_eos
        config.max_new_tokens = max_new_tokens
        config.min_new_tokens = min(options.min_new_tokens, max_new_tokens)
        config.logprobs = int(options.logprobs)
        config.frequency_penalty, config.presence_penalty = options.frequency_penalty, options.presence_penalty
        config.repetition_penalty = options.repetition_penalty
        if not options.greedy:
            config.do_sample, config.temperature = True, options.temperature
            config.top_p, config.min_p = options.top_p, options.min_p
            if options.top_k:
                config.top_k = options.top_k
            config.rng_seed = secrets.randbits(63) if options.seed is None else options.seed
        if options.grammar is not None:
            config.structured_output_config = genai.StructuredOutputConfig(grammar=options.grammar)
        return config


class Handle:
    """One request in the engine."""

    def __init__(self, handle, eos):
        self._handle, self._eos = handle, eos

    def read(self):
        """Return what came since the last time: token ids, log-probabilities, and how it finished (0: not yet).

        None when the engine gave the request up. The token that ended the answer is left out.
        """
        ids, logprobs, finish = [], [], 0
        while self._handle.can_read():
            for output in self._handle.read().values():
                ids += output.generated_ids
                logprobs += output.generated_log_probs
                finish = REASONS.get(output.finish_reason, finish)
        if not finish and not ids:
            finish = self._silent_finish()
            if finish is None:
                return None
        if finish == ENDED and ids and ids[-1] in self._eos:
            ids.pop()
            logprobs = logprobs[: len(ids)]
        return ids, logprobs, finish

    def cancel(self):
        """Give the request up: it is gone with the next step."""
        self._handle.cancel()

    def _silent_finish(self):
        """Return how a request without news stands: it may have finished without saying why."""
        status = self._handle.get_status()
        if status == genai.GenerationStatus.RUNNING:
            return 0
        return ENDED if status == genai.GenerationStatus.FINISHED else None
