"""Keys of engines: what TensorRT binds them to, and options that do not go together."""

from pathlib import Path
from typing import Any

import pytest

from services.common.machine import Gpu, Machine
from tools.cli.console import Problem
from tools.engines.keys import BuildOptions, Target, needs_builder

MACHINE = Machine("linux-x86_64", memory_bytes=1 << 34, gpus=(Gpu("NVIDIA L40S", "8.9", 48 << 30),))
OPTIONS: dict[str, Any] = {"workspace_bytes": 1 << 30}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"graph")
    return path


@pytest.mark.parametrize(
    ("options", "gpu", "capability", "compatibility"),
    [
        ({}, "NVIDIA L40S", "8.9", ""),
        ({"version_compatible": True}, "NVIDIA L40S", "8.9", "version-compatible"),
        ({"hardware_compatibility": "ampere-plus"}, "", "8.0+", "hardware=ampere-plus"),
        ({"hardware_compatibility": "same-compute-capability"}, "", "8.9", "hardware=same-compute-capability"),
    ],
)
def test_a_plan_is_bound_to_what_it_runs_on(
    graph: Path, options: dict[str, Any], gpu: str, capability: str, compatibility: str
) -> None:
    target = Target("tensorrt 11.4.0.1", BuildOptions(**OPTIONS, **options), MACHINE)
    key = target.key("toy", "tensorrt-fp16", "[]", graph)
    assert (key.gpu_name, key.compute_capability, key.compatibility) == (gpu, capability, compatibility)


def test_every_option_of_the_build_is_in_the_key(graph: Path) -> None:
    varied = [{}, {"optimization_level": 5}, {"workspace_bytes": 2 << 30}]
    digests = {
        Target("tensorrt 11.4.0.1", BuildOptions(**OPTIONS | one), MACHINE)
        .key("toy", "tensorrt-fp16", "", graph)
        .digest
        for one in varied
    }
    assert len(digests) == len(varied)


@pytest.mark.parametrize(
    ("profile", "capabilities"),
    [("tensorrt-fp32", "8.0 8.6 8.9 12.0"), ("tensorrt-int8", "8.0 8.6 8.9 12.0"), ("tensorrt-fp8", "8.9 12.0")],
)
def test_tensorrt_rtx_builds_for_gpus_that_have_the_data_type(graph: Path, profile: str, capabilities: str) -> None:
    target = Target("tensorrt-rtx 1.7.1.116", BuildOptions(**OPTIONS), MACHINE)
    assert target.key("toy", profile, "[]", graph).compute_capability == capabilities


def test_a_graph_for_onnx_runtime_is_bound_to_no_machine(graph: Path) -> None:
    key = Target("", BuildOptions(**OPTIONS), MACHINE).key("toy", "onnxruntime-cuda-fp16", "", graph)
    assert {name for name, value in key.model_dump().items() if value} == {"triton_model", "profile", "source_sha256"}


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        ("tensorrt", {"hardware_compatibility": "any"}, "unknown hardware compatibility 'any'"),
        ("tensorrt", {"optimization_level": 6}, "optimisation level 6"),
        ("tensorrt-rtx", {"version_compatible": True}, "neither version nor hardware compatibility"),
    ],
)
def test_options_that_a_builder_does_not_have_are_refused(builder: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Problem, match=message):
        BuildOptions(**OPTIONS | options).check(builder)


def test_which_profiles_are_compiled() -> None:
    assert (
        needs_builder("tensorrt-fp8") and not needs_builder("cpu-int8") and not needs_builder("onnxruntime-cuda-fp16")
    )
