"""The metrics that there are: the tables of docs/metrics.md, which tests hold against what running processes serve."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "metrics.md"
COMMON = "Every model service, and the embedding service"
SECTIONS = {
    "llm": (COMMON, "The LLM service, besides"),
    "embedding": (COMMON,),
    "asr": (COMMON, "The ASR service, besides"),
    "vision": (COMMON, "The vision service, besides"),
    "gateway": ("The gateway", "The gateway with API keys, besides"),
}
"""Headings of the tables of each service."""
_NOT_THERE = {"llm": "flotilla_batch_"}
_ROW = re.compile(r"^\| `(\w+)` \| (gauge|counter|histogram) \| (.*?)\| (.*?) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of a table."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its time series."""
        return (
            tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
            if self.kind == "histogram"
            else (self.name,)
        )


def metrics_of(service: str) -> list[Metric]:
    """Return what `service` exports, in the order of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = [metric for heading in SECTIONS[service] for metric in _table(text, heading)]
    return [metric for metric in found if not metric.name.startswith(_NOT_THERE.get(service, "-"))]


def _table(text: str, heading: str) -> list[Metric]:
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", maxsplit=1)[0]
    return [
        Metric(name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in _ROW.findall(section)
    ]
