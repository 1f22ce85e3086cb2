"""What is measured of calls and answers. Names follow OpenTelemetry's GenAI conventions where they have one.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import trace

from services.common.errors import ServiceError
from services.common.telemetry import Telemetry
from services.llm.answer import Finish
from services.llm.model import Statistics
from services.llm.sampling import Sampling

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FAST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
PROVIDER = "flotilla"
_LEFT = (asyncio.CancelledError, GeneratorExit)


class Instruments:
    """The instruments of the service."""

    def __init__(self, telemetry: Telemetry) -> None:
        histogram, counter = telemetry.histogram, telemetry.counter
        self._telemetry = telemetry
        self._first = histogram(
            "gen_ai.server.time_to_first_token", "From the begin of a call to its first token.", _SECONDS, "s"
        )
        self._between = histogram(
            "gen_ai.server.time_per_output_token", "Mean time between the tokens of an answer.", _FAST_SECONDS, "s"
        )
        self._duration = histogram("gen_ai.server.request.duration", "Time to answer a call.", _SECONDS, "s")
        self._usage = histogram("gen_ai.client.token.usage", "Tokens of a call, by type.", _TOKENS, "{token}")
        self._wasted = counter("flotilla_llm_wasted_tokens", "Tokens generated that nobody got, by reason.")
        self._cancelled = counter("flotilla_llm_cancelled", "Answers given up by their caller.")
        self._grammars = counter("flotilla_llm_grammar_faults", "Constraints refused, by field.")
        self._invalid = counter("flotilla_llm_invalid_answers", "Answers that broke their constraint: our fault.")

    def watch(self, model: str, read: Callable[[], Statistics]) -> None:
        """Register the gauges of an engine."""
        gauge, labels = self._telemetry.gauge, {"model": model}
        self._invalid.add(0, labels)  # so that there is something to alert on
        gauge("flotilla_llm_running", "Answers the engine works on.", lambda: read().running, labels)
        gauge("flotilla_llm_waiting", "Answers waiting in the engine.", lambda: read().waiting, labels)
        gauge("flotilla_llm_kv_cache_usage", "KV cache in use, 0 to 1.", lambda: read().kv_cache, labels)
        gauge(
            "flotilla_llm_prefix_cache_hit_rate",
            "Prompt tokens that came from the prefix cache, 0 to 1.",
            lambda: read().cached_tokens / max(1.0, read().prompt_tokens),
            labels,
        )

    def wasted(self, model: str, reason: str, tokens: int) -> None:
        """Count tokens that were generated in vain."""
        if tokens:
            self._wasted.add(tokens, {"model": model, "reason": reason})

    def cancelled(self, model: str) -> None:
        """Count an answer whose caller left."""
        self._cancelled.add(1, {"model": model})

    def grammar_fault(self, model: str, field: str) -> None:
        """Count a constraint that cannot be followed."""
        self._grammars.add(1, {"model": model, "field": field.partition("[")[0]})

    def invalid_answer(self, model: str) -> None:
        """Count an answer that broke its constraint."""
        self._invalid.add(1, {"model": model})

    @contextmanager
    def call(self, operation: str, model: str) -> Iterator["CallRecord"]:
        """Measure a call, which is the block. `operation` is chat or text_completion."""
        record = CallRecord({"gen_ai.operation.name": operation, "gen_ai.request.model": model})
        fault: dict[str, str] = {}
        try:
            yield record
        except ServiceError as error:
            fault = {"error.type": error.kind.name}
            raise
        except BaseException as error:
            fault = {"error.type": "CANCELLED" if isinstance(error, _LEFT) else "INTERNAL"}
            raise
        finally:
            self._end(record, fault)

    def answered(self, record: "CallRecord", began: float, tokens: int) -> None:
        """Record the mean time between the `tokens` of an answer whose first came at `began`, in monotonic seconds."""
        if tokens > 1:
            self._between.record((time.monotonic() - began) / (tokens - 1), record.attributes)

    def _end(self, record: "CallRecord", fault: dict[str, str]) -> None:
        attributes = record.attributes
        self._duration.record(time.monotonic() - record.began, {**attributes, **fault})
        if record.first is not None:
            self._first.record(record.first - record.began, attributes)
        for kind, tokens in (("input", record.prompt_tokens), ("output", record.completion_tokens)):
            if tokens:
                self._usage.record(tokens, {**attributes, "gen_ai.token.type": kind})
        record.describe(trace.get_current_span())


class CallRecord:
    """What becomes known of one call while it runs."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.attributes = {**attributes, "gen_ai.provider.name": PROVIDER}
        self.began = time.monotonic()
        self.first: float | None = None
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.sampling: Sampling | None = None
        self.finishes: list[Finish] = []

    def token_came(self) -> None:
        """Note the time of the first token."""
        if self.first is None:
            self.first = time.monotonic()

    def describe(self, span: trace.Span) -> None:
        """Put what is known on the span; no content."""
        if not span.is_recording():
            return
        span.set_attributes(
            {
                **self.attributes,
                "gen_ai.usage.input_tokens": self.prompt_tokens,
                "gen_ai.usage.output_tokens": self.completion_tokens,
                "gen_ai.response.finish_reasons": [finish.value for finish in self.finishes],
            }
        )
        if self.sampling is not None:
            span.set_attributes(
                {
                    "gen_ai.request.max_tokens": self.sampling.max_tokens,
                    "gen_ai.request.temperature": self.sampling.temperature,
                    "gen_ai.request.top_p": self.sampling.top_p,
                    "gen_ai.request.choice.count": self.sampling.n,
                }
            )
