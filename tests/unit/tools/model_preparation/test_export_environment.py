import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.cli.console import Problem
from tools.model_preparation import torch_environment as environment

CUDA = ["sympy>=1.13.3", 'nvidia-cublas-cu12==1; platform_system == "Linux"', 'triton==3; extra == "t"']
CPU = ["sympy>=1.13.3", 'triton==3; platform_system == "Darwin"', 'nvidia-x==1; extra == "cuda"']


def write_report(path: Path, requires: list[str]) -> Path:
    metadata = {"name": "torch", "requires_dist": requires}
    path.write_text(json.dumps({"install": [{"metadata": metadata}]}), encoding="utf-8")
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace pip by one that offers CUDA packages, and the machine by one without a GPU."""
    made: list[list[str]] = []

    def pip(arguments: Sequence[str | Path], *_: Any, **__: Any) -> None:
        made.append([str(argument) for argument in arguments])
        if "--dry-run" in arguments:
            write_report(Path(arguments[list(arguments).index("--report") + 1]), CUDA)

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


def test_what_torch_requires_here(tmp_path: Path) -> None:
    assert environment.requirements_of(write_report(tmp_path / "cuda.json", CUDA)) == ["sympy", "nvidia-cublas-cu12"]
    assert environment.requirements_of(write_report(tmp_path / "cpu.json", CPU)) == ["sympy"]


def test_cuda_is_refused_before_anything_is_installed(tmp_path: Path, calls: list[list[str]]) -> None:
    with pytest.raises(Problem), environment.torch_environment(tmp_path, None, allow_cuda=False):
        raise AssertionError("never entered")
    assert len(calls) == 1 and {"--dry-run", "--no-deps"} <= set(calls[0])
    assert not (tmp_path / "environment").exists()


def test_cuda_is_installed_when_asked_for(tmp_path: Path, calls: list[list[str]]) -> None:
    with environment.torch_environment(tmp_path, None, allow_cuda=True) as python:
        assert python.exists()
    assert len(calls) == 1 and "--dry-run" not in calls[0]
    assert not (tmp_path / "environment").exists()


def test_the_index_setting_reaches_pip(tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "requirements_of", lambda _report: ["sympy"])
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
