"""One trace from the client's header to Triton's own spans, which split waiting from computing."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.otlp_receiver import Receiver, Span, otlp_receiver
from tests.waiting import until
from tools.fleet.private import PrivateFleet, private_fleet

SPEECH = Path(__file__).resolve().parents[2] / "tools" / "export" / "speech.flac"
CALLER = "b7ad6b7169203331"
TRITON = "flotilla-triton"

# Telemetry is given up rather than waited for: on a machine with too much to do a batch of spans may be lost.
pytestmark = pytest.mark.flaky(reruns=2, reruns_delay=1, only_rerun=["in vain for the spans of all three"])


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as running:
        yield running


@pytest.fixture(scope="module")
async def fleet(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateFleet]:
    traced = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    async with private_fleet(tmp_path_factory.mktemp("fleet"), traced, services=["llm", "asr"]) as running:
        yield running


@pytest.fixture
async def http(fleet: PrivateFleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fleet.url, trust_env=False, timeout=120) as session:
        yield session


def traceparent(sampled: bool = True) -> tuple[str, dict[str, str]]:
    """A new trace, and the header that begins it."""
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{CALLER}-0{int(sampled)}"}


def path_to_the_caller(span: Span, spans: dict[str, Span]) -> list[str]:
    """The services from this span up to the caller's."""
    path = [span.service]
    while span.parent != CALLER:
        span = spans[span.parent]
        path.append(span.service)
    return [service for place, service in enumerate(path) if not place or service != path[place - 1]]


async def whole_trace(receiver: Receiver, trace: str, service: str) -> dict[str, Span]:
    """The spans of a trace, once all have come that a call leaves behind, its computing among them."""

    def there() -> bool:
        found = {span.id: span for span in receiver.of(trace)}
        came = {span.service for span in found.values()}
        linked = all(span.parent == CALLER or span.parent in found for span in found.values())
        computed = any("COMPUTE_START" in span.events for span in found.values())
        return linked and computed and came == {"flotilla-gateway", service, TRITON}

    await until(there, "the spans of all three")
    return {span.id: span for span in receiver.of(trace)}


def assert_split(spans: dict[str, Span]) -> None:
    """Triton says when a request came, when it began to wait, and when it was computed."""
    computing = [span for span in spans.values() if "COMPUTE_START" in span.events]
    assert computing
    for span in computing:
        waiting = spans[span.parent]
        assert (
            waiting.begin <= waiting.events["QUEUE_START"] <= span.events["COMPUTE_START"] <= span.events["COMPUTE_END"]
        )


async def test_a_streamed_chat_is_one_trace_down_to_tritons_own_spans(receiver, http):
    trace, headers = traceparent()
    body = {"model": "smollm2-135m-instruct", "stream": True, "max_tokens": 8}
    body |= {"messages": [{"role": "user", "content": "Name three ships."}]}
    async with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = [line async for line in answer.aiter_lines()]
    assert lines[-2:] == ["data: [DONE]", ""]
    spans = await whole_trace(receiver, trace, "flotilla-llm")
    for span in spans.values():
        if span.service == TRITON:
            assert path_to_the_caller(span, spans) == [TRITON, "flotilla-llm", "flotilla-gateway"]
    assert_split(spans)


async def test_a_transcription_is_one_trace_through_its_batches(receiver, http):
    trace, headers = traceparent()
    files = {"file": ("speech.flac", SPEECH.read_bytes())}
    fields = {"model": "whisper-tiny.en"}
    answer = await http.post("/v1/audio/transcriptions", files=files, data=fields, headers=headers)
    assert answer.status_code == 200
    spans = await whole_trace(receiver, trace, "flotilla-asr")
    assert "batch whisper_tiny_en" in {span.name for span in spans.values()}
    for span in spans.values():
        if span.service == TRITON:
            assert path_to_the_caller(span, spans) == [TRITON, "flotilla-asr", "flotilla-gateway"]
    assert_split(spans)


async def test_a_trace_that_the_caller_does_not_sample_leaves_no_spans(receiver, http):
    unsampled, headers = traceparent(sampled=False)
    sampled, others = traceparent()
    body = {"model": "smollm2-135m-instruct", "max_tokens": 1, "prompt": "a"}
    for carried in (headers, others):
        assert (await http.post("/v1/completions", json=body, headers=carried)).status_code == 200
    await whole_trace(receiver, sampled, "flotilla-llm")
    assert not receiver.of(unsampled)
