"""The service-level objectives: what share of requests, of each kind, is good over 30 days."""

from dataclasses import dataclass

_LOST = "UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED"
"""gRPC codes that are our fault. RESOURCE_EXHAUSTED is not among them: limits of keys have it too, and overload has an
alert of its own."""
_ROUTES = {
    "language": "/v1/(chat/completions|completions|responses).*",
    "embedding": "/v1/(embeddings|ranking|rerank)",
    "speech": "/v1/audio/.*",
    "vision": "/v1/(classify|detect|page-elements|faces|ocr|infer)",
}
_SERVICES = {"language": "llm", "embedding": "embedding", "speech": "asr", "vision": "vision"}


@dataclass(frozen=True, slots=True)
class Ratio:
    """A share of counted things: `counter` with the labels of the bad ones, or of the good ones, over all of it."""

    total: str
    part: str
    part_is_bad: bool

    def errors(self, window: str) -> str:
        """Return the share of bad ones over `window` as PromQL, by namespace."""
        part, total = (f"sum by (namespace) (rate({selector}[{window}]))" for selector in (self.part, self.total))
        if self.part_is_bad:
            return f"({part} or 0 * {total}) / ({total} > 0)"
        return f"1 - ({part} or 0 * {total}) / ({total} > 0)"


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective. `objective` is the share that is to be good."""

    slo: str
    modality: str
    objective: float
    ratio: Ratio

    @property
    def labels(self) -> dict[str, str]:
        """What every series of it is labelled with."""
        return {"slo": self.slo, "modality": self.modality}


def _available(modality: str) -> Slo:
    route, metric = _ROUTES[modality], "http_server_request_duration_seconds_count"
    total = f'{metric}{{job="gateway",http_route=~"{route}"}}'
    bad = f'{metric}{{job="gateway",http_route=~"{route}",http_response_status_code=~"5.."}}'
    return Slo("availability", modality, 0.999, Ratio(total, bad, part_is_bad=True))


def _available_by_grpc() -> Slo:
    metric = "rpc_server_call_duration_seconds_count"
    total = f'{metric}{{job="gateway"}}'
    bad = f'{metric}{{job="gateway",rpc_response_status_code=~"{_LOST}"}}'
    return Slo("availability", "grpc", 0.999, Ratio(total, bad, part_is_bad=True))


def _in_time(modality: str) -> Slo:
    metric, job = "flotilla_latency_objective_total", _SERVICES[modality]
    ratio = Ratio(f'{metric}{{job="{job}"}}', f'{metric}{{job="{job}",met="true"}}', part_is_bad=False)
    return Slo("latency", modality, 0.95, ratio)


def _below(slo: str, modality: str, histogram: str, seconds: float, selector: str) -> Slo:
    total = f"{histogram}_count{{{selector}}}"
    return Slo(slo, modality, 0.95, Ratio(total, f'{histogram}_bucket{{{selector},le="{seconds}"}}', part_is_bad=False))


SLOS = (
    *(_available(modality) for modality in _ROUTES),
    _available_by_grpc(),
    *(_in_time(modality) for modality in _SERVICES),
    _below("first_token", "language", "gen_ai_server_time_to_first_token_seconds", 1.28, 'job="llm"'),
    _below("live_final", "speech", "flotilla_asr_final_latency_seconds", 1.0, 'job="asr"'),
)
