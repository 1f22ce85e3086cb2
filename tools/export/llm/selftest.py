"""Self-test of a language model: prompts as token ids, what must follow them greedily, and its log-probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.export.llm.reference import log_softmax
from tools.export.llm.runtime import Graph

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt; the answer and its natural log-probabilities are those of the reference."""

    text: str
    prompt_ids: list[int]
    output_ids: list[int]
    logprobs: list[float]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """All cases, and how far a log-probability may be off."""

    tolerance: float
    cases: Sequence[Case]


def write_selftest(path: Path, test: SelfTest) -> None:
    """Write it as JSON."""
    document = {"format": FORMAT, "tolerance": test.tolerance, "cases": [asdict(case) for case in test.cases]}
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_selftest(path: Path) -> SelfTest:
    """Return a self-test. ValueError when the file is not one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        cases = [Case(**case) for case in document["cases"]]
        test = SelfTest(float(document["tolerance"]), cases)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("keys are missing or unknown") from error
    if document["format"] != FORMAT or not cases or any(not c.prompt_ids or not c.output_ids for c in cases):
        raise ValueError(f"not format {FORMAT} with prompts and answers")
    if any(len(case.output_ids) != len(case.logprobs) for case in cases):
        raise ValueError("an answer has not as many log-probabilities as tokens")
    return test


def fault(graph: Graph, test: SelfTest) -> str | None:
    """Return in which case the graph gives something else, or None."""
    for number, case in enumerate(test.cases):
        answer = graph.greedy(case.prompt_ids, len(case.output_ids), ())
        if answer != case.output_ids:
            return f"case {number}: another answer"
        graph.restart()
        logprobs = log_softmax(graph.follow([*case.prompt_ids, *answer])[len(case.prompt_ids) - 1 : -1])
        found = [float(row[token]) for row, token in zip(logprobs, answer, strict=True)]
        worst = max(abs(a - b) for a, b in zip(found, case.logprobs, strict=True))
        if not worst <= test.tolerance:
            return f"case {number}: a log-probability is {worst:.3f} off, allowed are {test.tolerance:.3f}"
    return None
