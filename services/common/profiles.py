"""Execution profiles: how a Triton model's contract is executed, and what of a machine each of them needs.

A profile's name says engine and precision: cpu-int8, onnxruntime-cuda-fp16, tensorrt-fp16, vllm-bf16-tp2-pp1 (tensor
and pipeline parallel over tp x pp GPUs). Which of them a model has is for model_repository/<service>/<model>/configs to
say; choosing one is the work of `profile_choice`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec

from services.common.machine import Machine, numbers
from services.common.triton import model_config_pb2

DEFAULT_PROFILE = "cpu-fp32"
PARAMETER = "profile"
"""Parameter of a config.pbtxt that names its profile where that is not the default one."""
LEAST_DRIVER, LEAST_DRIVER_FORWARD = "580", "535"
"""Oldest NVIDIA driver for CUDA 13, which the Triton images of 2026 have; with CUDA's forward compatibility package,
that of a data centre GPU may be older (NVIDIA's CUDA Compatibility guide)."""
CONTEXT_BYTES, RUNTIME_BYTES = 512 << 20, 64 << 20
"""The least that an instance takes beside its weights: GPU memory of a CUDA context with the libraries of an engine;
main memory of a Python process with ONNX Runtime."""
TENSORRT = "tensorrt-"
"""How the profiles begin whose engine is bound to a release of TensorRT and a kind of GPU."""
_BACKEND_OF_PLATFORM = {"tensorrt_plan": "tensorrt", "onnxruntime_onnx": "onnxruntime"}
_PARALLEL = re.compile(r"-tp(?P<tensor>[1-9]\d?)(?:-pp(?P<pipeline>[1-9]\d?))?$")


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to execute a model, and its needs that do not depend on the model."""

    name: str
    bytes_a_weight: float
    """Size of a weight, for what an engine that is not built yet will need."""
    gpu: bool = False
    automatic: bool = False
    """Taken by itself where it fits: it computes what the original does. Others are taken by name only."""
    engine: bool = True
    """Whether Triton executes a file of the engine cache, not the artifacts of the model store."""
    compute_capability: str = ""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1

    @property
    def gpus(self) -> int:
        """GPUs that one instance runs on."""
        return self.tensor_parallel * self.pipeline_parallel if self.gpu else 0


# Best first. Compute capabilities: TensorRT and CUDA 13 from Turing on, FP8 from Ada on, bfloat16 from Ampere on.
_KNOWN = (
    Profile("tensorrt-fp8", 1, gpu=True, compute_capability="8.9"),
    Profile("tensorrt-int8", 1, gpu=True, compute_capability="7.5"),
    Profile("tensorrt-fp16", 2, gpu=True, automatic=True, compute_capability="7.5"),
    Profile("vllm-bf16-tp1", 2, gpu=True, automatic=True, engine=False, compute_capability="8.0"),
    Profile("onnxruntime-cuda-fp16", 2, gpu=True, compute_capability="7.5"),
    Profile("ctranslate2-cuda-fp16", 2, gpu=True, engine=False, compute_capability="7.0"),
    Profile("cpu-int4", 0.5),
    Profile("cpu-int8", 1),
    Profile(DEFAULT_PROFILE, 4),
)
_BY_NAME = {profile.name: profile for profile in _KNOWN}


def known_profiles() -> tuple[str, ...]:
    """Return the names of all profiles, best first; vllm-bf16-tp1 stands for those on more GPUs."""
    return tuple(_BY_NAME)


def parse_profile(name: str) -> Profile | None:
    """Return the profile of that name; None when there is none."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    found = _PARALLEL.search(name)
    single = _BY_NAME.get(f"{name[: found.start()]}-tp1") if found else None
    if found is None or single is None:
        return None
    return replace(
        single, name=name, tensor_parallel=int(found["tensor"]), pipeline_parallel=int(found["pipeline"] or 1)
    )


def on_one_gpu(name: str) -> str:
    """Return the name of the same profile without parallelism: vllm-bf16-tp1 for vllm-bf16-tp2-pp2."""
    return _PARALLEL.sub("-tp1", name)


def best_first(names: Iterable[str]) -> list[str]:
    """Return names of profiles in the order of preference; unknown ones last."""
    order = list(_BY_NAME)
    return sorted(names, key=lambda name: order.index(on_one_gpu(name)) if on_one_gpu(name) in order else len(order))


def profile_of(config: model_config_pb2.ModelConfig) -> str:
    """Return the profile that a model of the runtime repository runs by: `profile_of(parts.configs[triton_name])`.

    The start-up writes the chosen profile into every configuration; in model_repository/ a config.pbtxt names its own
    by the parameter "profile" where it is not cpu-fp32.
    """
    return config.parameters[PARAMETER].string_value if PARAMETER in config.parameters else DEFAULT_PROFILE


def profile_of_all(configs: Iterable[model_config_pb2.ModelConfig]) -> str:
    """Return the profile of a model that is several Triton models; "cpu-int8+cpu-fp32" where they differ."""
    return "+".join(dict.fromkeys(profile_of(config) for config in configs))


def is_quantised(config: model_config_pb2.ModelConfig) -> bool:
    """Whether a configuration runs a graph in eight bits or fewer, which is near the original, not equal to it."""
    return profile_of(config).endswith(("int4", "int8", "fp8"))


def backend_of(config: model_config_pb2.ModelConfig) -> str:
    """Return the Triton backend that a configuration names; "" for an ensemble."""
    return config.backend or _BACKEND_OF_PLATFORM.get(config.platform, "")


def least_memory(profile: Profile, weights: int, instances: int) -> int:
    """Return how many bytes `instances` need at least, on each of their GPUs or in main memory; more with activations.

    `weights` are the bytes of weights as they are executed. Instances on a GPU share weights and context.
    """
    return CONTEXT_BYTES + weights // profile.gpus if profile.gpu else (RUNTIME_BYTES + weights) * instances


def misfits(
    profile: Profile, config: model_config_pb2.ModelConfig, weights: int, instances: int, machine: Machine
) -> list[str]:
    """Return why a machine cannot run a model by this profile, one text for each reason; [] when it can.

    `config` is the model's for this profile, `weights` its size as it is executed in bytes, `instances` how many there
    will be in main memory or on each GPU. The engine is not looked at.
    """
    reasons = _gpu_misfits(profile, machine) if profile.gpu else []
    backend = backend_of(config)
    if backend and machine.backends is not None and backend not in machine.backends:
        has = ", ".join(sorted(machine.backends)) or "none"
        reasons.append(f"the Triton in use has no backend '{backend}' (it has: {has})")
    if profile.name.startswith(TENSORRT) and backend == "python" and find_spec("tensorrt") is None:
        reasons.append("the Python package 'tensorrt', which runs the engine, is not installed")
    needed = least_memory(profile, weights, instances)
    there = machine.least_gpu_memory if profile.gpu else machine.memory_bytes
    if there and needed > there:
        where = "of each GPU" if profile.gpu else "of main memory"
        reasons.append(f"it needs at least {_gibibytes(needed)} {where}, there are {_gibibytes(there)}")
    return reasons


def _gpu_misfits(profile: Profile, machine: Machine) -> list[str]:
    if not machine.gpus:
        return ["there is no NVIDIA GPU"]
    reasons = []
    if len(machine.gpus) < profile.gpus:
        reasons.append(f"it needs {profile.gpus} GPUs, this machine has {len(machine.gpus)}")
    least = LEAST_DRIVER_FORWARD if machine.forward_compatible else LEAST_DRIVER
    if numbers(machine.driver) < numbers(least):
        reasons.append(f"it needs NVIDIA driver {least} or later, this is {machine.driver or 'an unknown one'}")
    weakest = min(machine.gpus, key=lambda gpu: numbers(gpu.compute_capability))
    if numbers(weakest.compute_capability) < numbers(profile.compute_capability):
        reasons.append(
            f"it needs compute capability {profile.compute_capability}, {weakest.name} has {weakest.compute_capability}"
        )
    if profile.name.startswith(TENSORRT) and len({gpu.name for gpu in machine.gpus}) > 1:
        names = ", ".join(sorted({gpu.name for gpu in machine.gpus}))
        reasons.append(f"an engine runs on one kind of GPU, there are {names}; choose with CUDA_VISIBLE_DEVICES")
    return reasons


def _gibibytes(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
