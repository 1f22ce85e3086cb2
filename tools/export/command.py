"""The one command line of all exporters, run inside a throw-away environment."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

REFUSED = 3
WANTED = "artifacts"
"""Key of the facts with the names of the artifacts that are wanted, for exporters that make some only then."""

Export = Callable[[Path, Path, Mapping[str, Any]], dict[str, Any]]
"""Reads a folder of source files, writes artifacts into another, by the model's facts; returns facts of the recipe."""


class ExportRefusedError(Exception):
    """The model cannot be exported, or the exported graph differs from the original."""


def run_exporter(export: Export, description: str | None, arguments: Sequence[str] | None = None) -> int:
    """Export and write the facts to facts.json; on refusal one line on stderr and exit code 3."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--source", type=Path, required=True, help="folder with the files of the manifest")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the artifacts to")
    parser.add_argument("--facts", type=json.loads, required=True, help="the model's facts in the manifest, as JSON")
    parser.add_argument("--artifacts", nargs="*", default=(), help="names of the artifacts that are wanted")
    chosen = parser.parse_args(arguments)
    try:
        facts = export(chosen.source, chosen.out, {**chosen.facts, WANTED: chosen.artifacts})
    except ExportRefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    (chosen.out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of packages, for the recipe."""
    return {name: version(name) for name in packages}
