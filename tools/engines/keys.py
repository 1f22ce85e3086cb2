"""The key of an engine that is about to be built, and what of it is known before the graph is converted."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from services.common.engines import TENSORRT, TENSORRT_RTX, VERSION_COMPATIBLE, EngineKey
from services.common.machine import Machine, numbers
from services.common.model_store import sha256_of
from services.common.profiles import parse_profile
from tools.cli.console import Problem
from tools.engines.precision import PrecisionReport, precision_of
from tools.engines.recipes.settings import recipe_for
from tools.engines.tensorrt import HARDWARE_COMPATIBILITY, RTX_COMPUTE_CAPABILITIES

STORE_GRAPH = "the graph of the store"
"""Recipe of a profile that executes the graph as it is."""
CPU_INTEGERS = "cpu-int8"
"""The precision whose graphs are for CPUs that multiply exactly what they were made for."""
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How TensorRT builds. None of it changes what the graph computes."""

    workspace_bytes: int
    """The most memory that the largest optimisation profile may take."""
    version_compatible: bool = False
    hardware_compatibility: str = HARDWARE_COMPATIBILITY[0]
    optimization_level: int = 3
    compute_capabilities: tuple[str, ...] = RTX_COMPUTE_CAPABILITIES

    def for_profile(self, profile: str) -> Self:
        """Return the options with the compute capabilities that the profile's data types need: fp8 from 8.9 on."""
        known = parse_profile(profile)
        least = numbers(known.compute_capability) if known else ()
        fitting = tuple(one for one in self.compute_capabilities if numbers(one) >= least)
        return replace(self, compute_capabilities=fitting)

    def check(self, builder: str) -> None:
        """Problem for options that this builder does not have."""
        if self.hardware_compatibility not in HARDWARE_COMPATIBILITY:
            known = ", ".join(HARDWARE_COMPATIBILITY)
            raise Problem(f"unknown hardware compatibility '{self.hardware_compatibility}'", f"choose one of: {known}")
        if not 0 <= self.optimization_level <= 5:
            raise Problem(f"optimisation level {self.optimization_level}", "choose 0 (fast builds) to 5 (fast engines)")
        if builder == TENSORRT_RTX and (self.version_compatible or self.hardware_compatibility != "none"):
            raise Problem(
                "tensorrt-rtx has neither version nor hardware compatibility",
                "its engines are for every GPU it builds for; leave the option away",
            )


@dataclass(frozen=True, slots=True)
class Target:
    """Who builds, for what."""

    builder: str
    """Name and version; "" where the engine is a graph for ONNX Runtime."""
    options: BuildOptions
    machine: Machine

    def key(self, triton_model: str, profile: str, shapes: str, source: Path) -> EngineKey:
        """Return the key as far as it is known before the graph is converted. Problem where a GPU is needed."""
        common = {"triton_model": triton_model, "profile": profile, "source_sha256": sha256_of(source)}
        name = self.builder.partition(" ")[0]
        if not name:
            bits = self.machine.weight_bits
            capability = ("int8" if bits == 8 else f"int{bits}+") if precision_of(profile) == CPU_INTEGERS else ""
            return EngineKey(**common, compute_capability=capability)
        flags = f"aux-streams=0,level={self.options.optimization_level},strongly-typed"
        flags += f",workspace={self.options.workspace_bytes / _GIB:g}GiB"
        bound = {"shapes": shapes, "builder": self.builder, "builder_flags": flags, "platform": self.machine.platform}
        if name == TENSORRT_RTX:
            capabilities = self.options.for_profile(profile).compute_capabilities
            return EngineKey(**common, **bound, compute_capability=" ".join(capabilities))
        return EngineKey(**common, **bound, **self._hardware())

    def _hardware(self) -> dict[str, str]:
        if not self.machine.gpus:
            raise Problem(
                "TensorRT builds on the GPU that it builds for, and there is none",
                "build without a GPU, not for Triton: --builder tensorrt-rtx",
            )
        gpu, level = self.machine.gpus[0], self.options.hardware_compatibility
        words = [f"hardware={level}"] if level != "none" else []
        words += [VERSION_COMPATIBLE] if self.options.version_compatible else []
        names = {"none": gpu.name}.get(level, "")
        capability = {"ampere-plus": "8.0+"}.get(level, gpu.compute_capability)
        return {"gpu_name": names, "compute_capability": capability, "compatibility": ",".join(words)}


def recipe_known(key: EngineKey) -> str:
    """Return what a whole key's recipe will begin with: name and version."""
    precision = precision_of(key.profile)
    if precision is None:
        return STORE_GRAPH
    recipe = recipe_for(key.triton_model, precision)
    return f"{recipe.name} v{recipe.version};"


def converted(key: EngineKey, report: PrecisionReport | None) -> EngineKey:
    """Return the whole key, once it is known how the graph was converted; None: not at all."""
    if report is None:
        return key.model_copy(update={"recipe": STORE_GRAPH})
    return key.model_copy(update={"recipe": report.recipe, "calibration_sha256": report.calibration_sha256})


def needs_builder(profile: str) -> bool:
    """Whether a profile's engine is compiled; it is a converted graph otherwise. Problem when it has no engine."""
    if profile.startswith(f"{TENSORRT}-"):
        precision_of(profile)
        return True
    known = parse_profile(profile)
    if known is None:
        raise Problem(f"there is no profile '{profile}'", "tools/flotilla profiles lists them")
    if not known.engine or precision_of(profile) is None:
        raise Problem(f"profile '{profile}' needs no engine: it runs what is in the model store", "nothing to do")
    return False
