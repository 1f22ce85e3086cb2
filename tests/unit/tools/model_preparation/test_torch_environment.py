import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.cli.console import Problem
from tools.model_preparation import torch_environment as environment

CUDA = ["torch", "nvidia-cublas-cu12", "triton", "sympy"]


def write_report(arguments: Sequence[str | Path], names: list[str]) -> None:
    report = Path(arguments[list(arguments).index("--report") + 1])
    report.write_text(json.dumps({"install": [{"metadata": {"name": name}} for name in names]}), encoding="utf-8")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace pip by one that offers CUDA packages, and the machine by one without a GPU."""
    made: list[list[str]] = []

    def pip(arguments: Sequence[str | Path], *_: Any, **__: Any) -> None:
        made.append([str(argument) for argument in arguments])
        if "--dry-run" in arguments:
            write_report(arguments, CUDA)

    monkeypatch.setattr(environment, "pip", pip)
    monkeypatch.setattr(environment, "has_nvidia_gpu", lambda: False)
    return made


@pytest.mark.parametrize("name", ["nvidia-cudnn-cu13", "nvidia_nccl", "cuda-bindings", "triton", "pytorch-triton"])
def test_cuda_packages_are_recognised(name: str) -> None:
    with pytest.raises(Problem, match="CUDA packages") as failure:
        environment.refuse_cuda(["torch", name])
    assert "FLOTILLA_TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu" in failure.value.next_step


def test_a_cpu_build_passes() -> None:
    environment.refuse_cuda(["torch", "sympy", "tritonclient", "networkx"])


def test_cuda_is_refused_before_anything_is_installed(tmp_path: Path, calls: list[list[str]]) -> None:
    with pytest.raises(Problem), environment.torch_environment(tmp_path, None, allow_cuda=False):
        raise AssertionError("never entered")
    assert len(calls) == 1 and "--dry-run" in calls[0]
    assert not (tmp_path / "environment").exists()


def test_cuda_is_installed_when_asked_for(tmp_path: Path, calls: list[list[str]]) -> None:
    with environment.torch_environment(tmp_path, None, allow_cuda=True) as python:
        assert python.exists()
    assert len(calls) == 1 and "--dry-run" not in calls[0]
    assert not (tmp_path / "environment").exists()


def test_the_index_setting_reaches_pip(tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "packages_of", lambda _report: ["torch"])
    with environment.torch_environment(tmp_path, "https://index.example/cpu", allow_cuda=False):
        pass
    assert all("https://index.example/cpu" in call and "--extra-index-url" in call for call in calls)
    assert len(calls) == 2


def test_the_environment_is_removed_after_an_interrupt(tmp_path: Path, calls: list[list[str]]) -> None:
    with pytest.raises(KeyboardInterrupt), environment.torch_environment(tmp_path, None, allow_cuda=True):
        raise KeyboardInterrupt
    assert not (tmp_path / "environment").exists()


def test_the_requirements_are_those_of_the_extra() -> None:
    assert {"torch", "sentence-transformers", "onnx"} <= set(environment.export_requirements())
