"""Pages of several processes as one that a Prometheus parser accepts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.common.prometheus_text import labelled, merged

TRITON = """\
# HELP nv_inference_count Number of inferences performed
# TYPE nv_inference_count counter
nv_inference_count{model="a b",version="1"} 7
nv_inference_count{model="{}",version="1"} 1e-3 1700000000
"""


def page() -> str:
    registry = CollectorRegistry()
    Counter("calls", "Calls.", ["method"], registry=registry).labels('a"\\\n}').inc()
    Histogram("seconds", "Time.", registry=registry).observe(0.1)
    Gauge("running", "Now.", registry=registry).set(float("inf"))
    return generate_latest(registry).decode() + TRITON


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_page_alone_stays_what_it_was() -> None:
    text = page()
    assert samples(merged(text)) == samples(text)


def test_every_sample_gets_the_labels() -> None:
    text = page()
    before, after = samples(text), samples(labelled(text, {"service": "llm", "instance": 'x"\\y'}))
    added = {("service", "llm"), ("instance", 'x"\\y')}
    assert after == {(name, labels | added): value for (name, labels), value in before.items()}


def test_families_of_several_pages_are_described_once_and_stay_together() -> None:
    parts = [page(), labelled(page(), {"service": "a"}), labelled(page(), {"service": "b"})]
    text = merged(*parts)
    described = [line for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(described) == len(set(described)) == len([line for line in page().splitlines() if "# TYPE" in line])
    assert len(samples(text)) == 3 * len(samples(page()))
    families = [family.name for family in text_string_to_metric_families(text)]
    assert len(families) == len(set(families))


def test_what_contradicts_or_is_no_sample_is_left_out() -> None:
    text = merged("# TYPE a gauge\na 1\n", '# TYPE a counter\na{x="1"} 2\n', "<html>no\n# TYPE\nb{ 3\nc 4\n")
    assert samples(text) == {("a", frozenset()): 1, ("c", frozenset()): 4}
