"""ONNX Runtime reports to its makers by default, and keeps an identifier for that under the home folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.settings import REPOSITORY_ROOT

SUPPRESSED_BY = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")


@pytest.mark.parametrize("module", ["services.asr.vad", "tools.engines.sessions"])
def test_engines_in_our_own_processes_report_to_nobody(module: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in SUPPRESSED_BY}
    program = f"import {module}, onnxruntime; onnxruntime.SessionOptions(); onnxruntime.get_available_providers()"
    subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=REPOSITORY_ROOT,
        env={**environment, "PYTHONPATH": str(REPOSITORY_ROOT), "HOME": str(tmp_path)},
        check=True,
    )
    assert not list(tmp_path.rglob("*onnxruntime*"))
