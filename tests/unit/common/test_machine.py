import subprocess

import pytest

from services.common import machine
from services.common.machine import Gpu, numbers, tensorrt_version, this_machine, visible_gpus

TWO = """0, GPU-aaaa-1, NVIDIA H100 80GB HBM3, 9.0, 81559, 580.65.06
1, GPU-bbbb-2, NVIDIA A10, 8.6, 23028, 580.65.06
"""


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """Puts an nvidia-smi in PATH that prints a text, or fails."""

    def put(text, code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return put


def names():
    return [gpu.name for gpu in visible_gpus()[0]]


def test_gpus_are_those_of_nvidia_smi(nvidia_smi):
    nvidia_smi(TWO)
    gpus, driver = visible_gpus()
    assert gpus[0] == Gpu("NVIDIA H100 80GB HBM3", "9.0", 81559 << 20)
    assert (len(gpus), driver) == (2, "580.65.06")


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ("", []),
        ("1", ["NVIDIA A10"]),
        ("1,0", ["NVIDIA A10", "NVIDIA H100 80GB HBM3"]),
        ("GPU-bbbb", ["NVIDIA A10"]),
        ("0, 7, 1", ["NVIDIA H100 80GB HBM3"]),
        ("-1", []),
    ],
)
def test_cuda_visible_devices_counts(nvidia_smi, monkeypatch, chosen, found):
    nvidia_smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert names() == found


@pytest.mark.parametrize(("text", "code"), [("No devices were found\n", 6), ("NVIDIA-SMI has failed\n", 9), ("", 0)])
def test_a_driver_that_does_not_answer_means_no_gpu(nvidia_smi, text, code):
    nvidia_smi(text, code)
    assert visible_gpus() == ((), "")


def test_an_nvidia_smi_that_hangs_is_given_up(monkeypatch):
    def hang(*args, timeout, **kwargs):
        raise subprocess.TimeoutExpired("nvidia-smi", timeout)

    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(machine.subprocess, "run", hang)
    assert visible_gpus() == ((), "")


def test_memory_that_is_not_told_is_unknown(nvidia_smi):
    nvidia_smi("0, GPU-a, NVIDIA H100 80GB HBM3, 9.0, [N/A], 580.65.06\n")
    assert visible_gpus()[0][0].memory_bytes == 0


def test_the_release_of_tensorrt_is_the_images_or_the_packages(monkeypatch, tmp_path):
    status = tmp_path / "status"
    status.write_text(
        "Package: libnvinfer-plugin11\nVersion: 1.2.3\n\n"
        "Package: libnvinfer11\nStatus: install ok installed\nVersion: 11.4.0.1-1+cuda13.2\n\n"
    )
    monkeypatch.delenv("TRT_VERSION", raising=False)
    assert tensorrt_version(status) == "11.4.0.1"
    assert tensorrt_version(tmp_path / "nothing") == ""
    monkeypatch.setenv("TRT_VERSION", "11.5.0.7+cuda13.3")
    assert tensorrt_version(status) == "11.5.0.7"


def test_versions_compare_by_their_numbers():
    assert numbers("580.65.06") == (580, 65, 6)
    assert numbers("580") < numbers("580.65") < numbers("1000")
    assert numbers("") == ()


def test_this_machine_is_described():
    found = this_machine()
    assert found.platform.startswith("linux-")
    assert found.memory_bytes > 1 << 30
    assert "python" in found.backends
    assert this_machine(own_triton=False).backends is None
