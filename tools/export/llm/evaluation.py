"""How well what is served of a language model does beside its best-precision weights: perplexity, greedy agreement.

The reference is the network in numpy on the source's own weights. Runs in the environment `export-llm`:
`python -m tools.export.llm.evaluation --source DIR --artifacts DIR --texts FILE --out FILE`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tools.export.command import REFUSED, ExportRefusedError
from tools.export.llm.bfloat16_weights import CONFIG, WEIGHTS
from tools.export.llm.exporter import open_source
from tools.export.llm.parity import CLOSE
from tools.export.llm.reference import log_probabilities, log_softmax
from tools.export.llm.runtime import Graph
from tools.export.llm.safetensors_folder import SafetensorsFolder
from tools.export.llm.source import Array

PROMPT_TOKENS, ANSWER_TOKENS = 24, 40
AT_ONCE = 6
"""Sequences whose log-probabilities [tokens, vocabulary] are in memory at the same time."""
GRAPH = "openvino_model.xml"
Rows = Callable[[Sequence[Sequence[int]]], list[Array]]


@dataclass(slots=True)
class Sums:
    """What one candidate came to."""

    nll: float = 0.0
    """Negative log-likelihood of the texts in nats."""
    reference_nll: float = 0.0
    tokens: int = 0
    """Tokens of the texts that were predicted."""
    agreeing: int = 0
    """Positions of texts and greedy answers whose best token is the reference's, or within 0.1 nats of it there."""
    same: int = 0
    """Positions at which it is the very token."""
    positions: int = 0

    def add(self, ids: Sequence[int], scored: bool, expected: Array, found: Array) -> None:
        """Add one sequence; `scored` when it is a text, not an answer of the model. Arrays [tokens, vocabulary]."""
        best, chosen = expected.max(axis=-1), found.argmax(axis=-1)
        reached = expected[np.arange(len(ids)), chosen]
        self.agreeing += int((best - reached <= CLOSE).sum())
        self.same += int((expected.argmax(axis=-1) == chosen).sum())
        self.positions += len(ids)
        if scored:
            places = np.arange(len(ids) - 1), np.asarray(ids[1:])
            self.nll -= float(found[places].sum(dtype=np.float64))
            self.reference_nll -= float(expected[places].sum(dtype=np.float64))
            self.tokens += len(ids) - 1


def evaluate(source_folder: Path, artifacts: Path, texts: Sequence[str]) -> dict[str, Sums]:
    """Hold the exported graph, and the weights for vLLM where they are, against the source; sums by profile."""
    source, graph = open_source(source_folder), Graph(artifacts / GRAPH)
    tokenizer, ends = source.tokenizer(), source.vocabulary().eos_ids
    passages = [list(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
    prompts = [ids[:PROMPT_TOKENS] for ids in passages]
    answers = [prompt + graph.greedy(prompt, ANSWER_TOKENS, ends) for prompt in prompts]
    sequences = [(ids, True) for ids in passages] + [(ids, False) for ids in answers]
    with TemporaryDirectory() as folder:
        candidates: dict[str, Rows] = {"cpu-int4": lambda many: [_follow(graph, ids) for ids in many]}
        if (artifacts / WEIGHTS).is_file():
            rounded = _rounded(artifacts, Path(folder))
            candidates["vllm-bf16"] = lambda many: log_probabilities(rounded, many)
        sums = {name: Sums() for name in candidates}
        for start in range(0, len(sequences), AT_ONCE):
            batch = sequences[start : start + AT_ONCE]
            expected = log_probabilities(source, [ids for ids, _ in batch])
            for name, rows in candidates.items():
                found = rows([ids for ids, _ in batch])
                for (ids, scored), one, other in zip(batch, expected, found, strict=True):
                    sums[name].add(ids, scored, one, other)
            print(f"{min(start + AT_ONCE, len(sequences))} of {len(sequences)} texts", flush=True)
    return sums


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sums of every candidate as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder with the files of the manifest")
    parser.add_argument("--artifacts", type=Path, required=True, help="folder with the artifacts by name")
    parser.add_argument("--texts", type=Path, required=True, help="JSON list of texts")
    parser.add_argument("--out", type=Path, required=True, help="file to write to")
    chosen = parser.parse_args(arguments)
    try:
        sums = evaluate(chosen.source, chosen.artifacts, json.loads(chosen.texts.read_text(encoding="utf-8")))
    except ExportRefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    chosen.out.write_text(json.dumps({name: asdict(one) for name, one in sums.items()}), encoding="utf-8")
    return 0


def _rounded(artifacts: Path, folder: Path) -> SafetensorsFolder:
    (folder / "config.json").symlink_to((artifacts / CONFIG).resolve())
    (folder / "model.safetensors").symlink_to((artifacts / WEIGHTS).resolve())
    return SafetensorsFolder(folder)


def _follow(graph: Graph, ids: Sequence[int]) -> Array:
    graph.restart()
    return log_softmax(graph.follow(ids))


if __name__ == "__main__":
    sys.exit(main())
