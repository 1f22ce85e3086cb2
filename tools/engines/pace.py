"""How fast two graphs are beside each other on this CPU: in one process, in turn, on the same real inputs, one thread.

python -m tools.engines.pace TRITON_MODEL CANDIDATE.onnx [--rounds 12]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from services.common.manifest import load_manifest
from services.common.model_store import ModelStore
from tools.cli.settings import ToolSettings
from tools.engines.sessions import open_graph
from tools.engines.subjects import Run, Subject, Tensors, subject

BATCHES = 6


@dataclass(frozen=True, slots=True)
class Pace:
    """CPU time of one thread for the same inputs. The ratio is the reference's over the candidate's."""

    reference_ms: float
    """Median over the rounds, for all inputs."""
    candidate_ms: float
    ratio: float
    """Median of the ratios of every round."""
    least: float
    greatest: float


def pace(one: Subject, candidate: Path, rounds: int) -> Pace:
    """Time the subject's graph and the candidate in turn on calibration inputs, after one round to warm up."""
    runs = open_graph(one.graph, threads=1), open_graph(candidate, threads=1)
    batches = list(islice(one.calibration(), BATCHES))
    for run in runs:
        _thread_seconds(run, batches)
    pairs = [(_thread_seconds(runs[0], batches), _thread_seconds(runs[1], batches)) for _ in range(rounds)]
    ratios = [before / after for before, after in pairs]
    before, after = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    return Pace(before, after, statistics.median(ratios), min(ratios), max(ratios))


def _thread_seconds(run: Run, batches: Sequence[Tensors]) -> float:
    """CPU seconds of this thread, which is the only one that computes: what others do on the machine counts little."""
    began = time.thread_time()
    for batch in batches:
        run(batch)
    return time.thread_time() - began


def main() -> None:
    """Print the pace as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("triton_model")
    parser.add_argument("candidate", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    chosen = parser.parse_args()
    one = subject(chosen.triton_model, load_manifest(), ModelStore(ToolSettings().model_store))
    print(json.dumps(asdict(pace(one, chosen.candidate, chosen.rounds)), indent=2))


if __name__ == "__main__":
    main()
