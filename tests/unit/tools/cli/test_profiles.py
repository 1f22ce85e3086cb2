"""`flotilla profiles`: what fits and what is taken, in words and in JSON."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from services.common.engines import EngineCache, EngineKey
from services.common.machine import Gpu, Machine
from services.common.manifest import load_manifest
from tools.cli import profiles
from tools.cli.console import Problem
from tools.engines.publish import EnginePublisher

ENCODER, READER, SPEECH = "all-minilm-l6-v2", "pp-ocrv6", "whisper-base"
CPU_ONLY = Machine("linux-x86_64", 16 << 30, backends=frozenset({"python"}))
WITH_GPU = Machine(
    "linux-x86_64",
    16 << 30,
    (Gpu("Tesla T4", "7.5", 15 << 30),),
    "580.65.06",
    backends=frozenset({"python", "tensorrt", "onnxruntime"}),
    tensorrt="11.4.0.1",
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose artifacts are a few bytes."""
    root = tmp_path / "store"
    (root / "models").mkdir(parents=True)
    (root / "blobs/sha256").mkdir(parents=True)
    for model in load_manifest().models.values():
        artifacts = {}
        for name in model.artifacts:
            content = f"{model.id} {name}".encode()
            digest = hashlib.sha256(content).hexdigest()
            (root / "blobs/sha256" / digest).write_bytes(content)
            artifacts[name] = {"sha256": digest, "size": len(content)}
        index = {"format": 1, "artifacts": artifacts, "recipe": {}}
        (root / "models" / f"{model.id}.json").write_text(json.dumps(index))
    monkeypatch.setenv("FLOTILLA_MODEL_STORE", str(root))
    monkeypatch.setenv("FLOTILLA_CPU_THREADS", "2")
    on(monkeypatch, CPU_ONLY)
    return root


def on(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setattr(profiles, "this_machine", lambda **_: machine)


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(profiles.profiles)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(*arguments: str) -> dict[str, dict[str, Any]]:
    """The rows of one model by profile."""
    found = json.loads(run(*arguments, "--json").stdout)["profiles"]
    return {row["profile"]: row for row in found}


def publish(store: Path, name: str, artifact: str, model: str, profile: str) -> None:
    index = json.loads((store / "models" / f"{model}.json").read_text())
    key = EngineKey(triton_model=name, profile=profile, source_sha256=index["artifacts"][artifact]["sha256"])
    file = store / "model.onnx"
    file.write_bytes(name.encode())
    EnginePublisher(EngineCache(store)).publish(
        key, model, {"model.onnx": file}, gate={"passed": True}, facts={}, build_seconds=1.0
    )


def test_every_model_of_the_manifest_takes_a_profile_that_fits(store: Path) -> None:
    found = json.loads(run("--json").stdout)
    assert found["machine"]["backends"] == ["python"]
    taken = {row["model"]: row["profile"] for row in found["profiles"] if row["taken"]}
    assert taken.keys() == load_manifest().models.keys()
    assert taken[ENCODER] == taken[READER] == "cpu-fp32"
    assert taken[SPEECH] == "cpu-int8"
    assert all(row["fits"] for row in found["profiles"] if row["taken"])


def test_the_reasons_are_those_of_the_start(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows(ENCODER)["tensorrt-fp16"]["reasons"] == [
        "there is no NVIDIA GPU",
        "the Triton in use has no backend 'tensorrt' (it has: python)",
    ]
    on(monkeypatch, WITH_GPU)
    found = rows(ENCODER)
    assert "needs compute capability 8.9, Tesla T4 has 7.5" in found["tensorrt-fp8"]["reasons"][0]
    assert "engines build all_minilm_l6_v2 --profile tensorrt-fp16" in found["tensorrt-fp16"]["reasons"][0]


def test_an_engine_makes_a_profile_fit_and_the_setting_takes_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "all_minilm_l6_v2", "model.onnx", ENCODER, "cpu-int8")
    found = rows(ENCODER)
    assert (found["cpu-int8"]["fits"], found["cpu-int8"]["taken"], found["cpu-fp32"]["taken"]) == (True, False, True)
    monkeypatch.setenv("FLOTILLA_EMBEDDING_PROFILE", "cpu-int8")
    assert rows(ENCODER)["cpu-int8"]["taken"]


def test_every_part_of_a_model_needs_its_engine(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "pp_ocrv6_det", "det.onnx", READER, "cpu-int8")
    reasons = rows(READER)["cpu-int8"]["reasons"]
    assert ["pp_ocrv6_cls" in reasons[0], "pp_ocrv6_rec" in reasons[1]] == [True, True]
    monkeypatch.setenv("FLOTILLA_VISION_PROFILES", "pp_ocrv6_det=cpu-int8,centerface=cpu-fp32")
    found = rows(READER)
    assert (found["cpu-int8"]["taken"], found["cpu-fp32"]["taken"]) == (True, True)


def test_a_setting_that_would_stop_the_start_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOTILLA_ASR_PROFILE", "cpu-fp23")
    found = rows(SPEECH)
    assert found["at start"]["reasons"][0].startswith("profile 'cpu-fp23' does not exist")
    assert not any(row["taken"] for row in found.values())


def test_in_words_the_taken_profile_and_every_reason_have_a_line(store: Path) -> None:
    lines = run(ENCODER).stdout.splitlines()
    assert lines[0].startswith("This machine: linux-x86_64, 16.0 GiB of memory; no NVIDIA GPU; Triton backends: python")
    assert lines[1] == f"{ENCODER} (embedding)"
    assert lines[-1].split() == ["cpu-fp32", "yes", "taken"]
    assert sum("has no backend" in line for line in lines) == 4


def test_a_model_that_is_not_in_the_store_says_what_to_run(store: Path) -> None:
    (store / "models" / f"{ENCODER}.json").unlink()
    assert f"tools/models fetch {ENCODER}" in rows(ENCODER)["-"]["reasons"][0]


def test_an_unknown_model_is_a_problem(store: Path) -> None:
    with pytest.raises(Problem, match="unknown model 'nope'"):
        run("nope")
