import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.export.command import REFUSED, ExportRefusedError, run_exporter, versions


def arguments(folder: Path) -> list[str]:
    return ["--source", str(folder), "--out", str(folder), "--facts", '{"labels": 3}']


def test_facts_go_in_and_come_out(tmp_path: Path) -> None:
    def export(_source: Path, _out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {"seen": facts["labels"], "tools": versions(["numpy"])}

    assert run_exporter(export, "text", arguments(tmp_path)) == 0
    written = json.loads((tmp_path / "facts.json").read_text())
    assert written["seen"] == 3 and written["tools"]["numpy"]


def test_a_refusal_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def export(_source: Path, _out: Path, _facts: Mapping[str, Any]) -> dict[str, Any]:
        raise ExportRefusedError("it differs")

    assert run_exporter(export, "text", arguments(tmp_path)) == REFUSED
    assert capsys.readouterr().err == "refused: it differs\n"
    assert not (tmp_path / "facts.json").exists()
