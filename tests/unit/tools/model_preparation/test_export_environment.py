import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tools.cli.console import Problem
from tools.export.exporters import EXPORTERS, Exporter
from tools.model_preparation import export_environment as environment

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
    with pytest.raises(Problem), environment.export_environments(tmp_path, None, allow_cuda=False) as environments:
        environments.interpreter("export")
    assert len(calls) == 1 and {"--dry-run", "--no-deps"} <= set(calls[0])
    assert not (tmp_path / "environment").exists()


def test_cuda_is_installed_when_asked_for(tmp_path: Path, calls: list[list[str]]) -> None:
    with environment.export_environments(tmp_path, None, allow_cuda=True) as environments:
        assert environments.interpreter("export").exists()
    assert len(calls) == 1 and "--dry-run" not in calls[0]
    assert not (tmp_path / "environment").exists()


def test_the_index_setting_reaches_pip(tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "requirements_of", lambda _report: ["sympy"])
    with environment.export_environments(tmp_path, "https://index.example/cpu", allow_cuda=False) as environments:
        environments.interpreter("export")
    assert all("https://index.example/cpu" in call and "--extra-index-url" in call for call in calls)
    assert len(calls) == 2


@pytest.mark.parametrize("extra", ["export-onnx", "export-tensorflow"])
def test_an_environment_without_torch_asks_for_none(tmp_path: Path, calls: list[list[str]], extra: str) -> None:
    with environment.export_environments(tmp_path, "https://index.example/cpu", allow_cuda=False) as environments:
        environments.interpreter(extra)
    (install,) = calls
    assert "torch" not in install and "https://index.example/cpu" not in install


def test_an_environment_is_built_once_and_replaced_by_the_next(tmp_path: Path, calls: list[list[str]]) -> None:
    with environment.export_environments(tmp_path, None, allow_cuda=True) as environments:
        assert environments.bytes_for("export-onnx") > 0
        first = environments.interpreter("export-onnx")
        (first.parent / "mark").touch()
        assert environments.interpreter("export-onnx") == first and (first.parent / "mark").exists()
        assert environments.bytes_for("export-onnx") == 0
        assert environments.interpreter("export").exists() and not (first.parent / "mark").exists()
    assert len(calls) == 2


def test_the_environment_is_removed_after_an_interrupt(tmp_path: Path, calls: list[list[str]]) -> None:
    def interrupted() -> None:
        with environment.export_environments(tmp_path, None, allow_cuda=True) as environments:
            environments.interpreter("export")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not (tmp_path / "environment").exists()


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=list(EXPORTERS))
def test_every_exporter_has_a_module_and_an_environment(exporter: Exporter) -> None:
    assert find_spec(exporter.module) is not None
    assert environment.export_requirements(exporter.environment)
    assert environment.ENVIRONMENT_BYTES[exporter.environment] > 0
