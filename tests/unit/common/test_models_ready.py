import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.common import models_ready
from services.common.manifest import DEFAULT_MANIFEST, load_manifest
from services.common.model_store import ModelStore

ROOT = Path(__file__).resolve().parents[3]


def test_what_is_missing_first_is_named(tmp_path: Path) -> None:
    missing = models_ready.first_missing(load_manifest(DEFAULT_MANIFEST), ModelStore(tmp_path), "embedding")
    assert missing.startswith("model 'all-minilm-l6-v2' is not in the store")


def test_nothing_is_missing_of_a_service_without_models(tmp_path: Path) -> None:
    assert not models_ready.first_missing(load_manifest(DEFAULT_MANIFEST), ModelStore(tmp_path), "none")


def test_it_waits_says_so_once_and_ends_at_sigterm(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "FLOTILLA_MODEL_STORE": str(tmp_path), "PYTHONPATH": f"{ROOT}"}
    command = [sys.executable, "-m", "services.common.models_ready", "llm"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("waiting: model 'smollm2-135m-instruct' is not in the store")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM


def test_the_gateway_has_no_models(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["models_ready", "gateway"])
    with pytest.raises(SystemExit):
        models_ready.main()
    assert "invalid choice: 'gateway'" in capsys.readouterr().err
