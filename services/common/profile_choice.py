"""The choice of a profile for every model at start: what was asked for by name, or the best one that fits by itself.

Nothing falls back silently: a profile asked for by name that does not fit stops the start with the reason, and a better
one that was passed over is named in the log with the reason.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.common.engines import TENSORRT as TENSORRT_BUILDER
from services.common.engines import EngineCache, EngineError
from services.common.machine import Machine
from services.common.model_store import ModelStoreError
from services.common.profiles import TENSORRT, Profile, best_first, known_profiles, misfits, parse_profile
from services.common.runtime_repository import (
    RuntimeModel,
    Variant,
    adapted_config,
    default_variant,
    has_fixed_instances,
    variant_config,
    variants,
)
from services.common.server import StartupError
from services.common.triton import model_config_pb2

_log = logging.getLogger(__name__)
SOURCE_WEIGHT_BYTES = 4
"""Size of a weight in the graphs of the model store."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the settings ask for."""

    profile: str | None = None
    profiles: Mapping[str, str] = field(default_factory=dict)
    """By public model id or Triton model name."""
    gpu_instances: int | None = None

    def of(self, part: RuntimeModel) -> str | None:
        """Return the profile that is asked for by name; None: the best."""
        return self.profiles.get(part.name) or self.profiles.get(model_of(part)) or self.profile


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether one Triton model can be run by a profile here."""

    variant: Variant | None
    reasons: tuple[str, ...] = ()
    """Why not; empty where it can."""


def model_of(part: RuntimeModel) -> str:
    """Return the public id of the model a Triton model is a part of."""
    return part.model or part.name


def machine_fields(machine: Machine, profile: Profile) -> dict[str, str]:
    """Return the fields of the key of an engine for this profile that a machine knows of itself."""
    fields = {"platform": machine.platform}
    if not profile.gpu:
        fields["compute_capability"] = f"int{machine.weight_bits}"
    elif machine.gpus:
        gpu = machine.gpus[0]
        fields |= {"gpu_name": gpu.name, "compute_capability": gpu.compute_capability}
    if profile.name.startswith(TENSORRT) and machine.tensorrt:
        fields["builder"] = f"{TENSORRT_BUILDER} {machine.tensorrt}"
    return fields


class Chooser:
    """Chooses among the variants of the models of one service."""

    def __init__(
        self, source: Path, machine: Machine, cache: EngineCache, cpu_threads: int, wanted: Wanted | None = None
    ) -> None:
        """`source` is the service's folder in the model repository."""
        self._source, self._machine, self._cache = source, machine, cache
        self._cpu_threads, self._wanted = cpu_threads, wanted or Wanted()

    def choose(self, parts: Sequence[RuntimeModel]) -> dict[str, Variant]:
        """Return the variant of each Triton model by its name.

        Logs one line for each public model, and one for each better profile that was passed over. Raises StartupError
        for a profile that does not exist or does not fit, with the reason.
        """
        self._check_names(parts)
        chosen: dict[str, Variant] = {}
        for model in dict.fromkeys(map(model_of, parts)):
            own = [part for part in parts if model_of(part) == model]
            choosing = [part for part in own if self._has_variants(part)]
            asked = {part.name: self._asked_for(part, name) for part in choosing if (name := self._wanted.of(part))}
            best, passed_over = self._best([part for part in choosing if part.name not in asked])
            others = [part for part in own if part not in choosing]
            chosen |= {**asked, **best, **{part.name: default_variant(self._source / part.folder) for part in others}}
            self._log(model, [chosen[part.name].profile for part in choosing or own], passed_over)
        return chosen

    def profiles(self, parts: Iterable[RuntimeModel]) -> list[str]:
        """Return the profiles that every Triton model with variants among `parts` has, best first."""
        every = [set(variants(self._source / part.folder)) for part in self.choosing(parts)]
        return best_first(set.intersection(*every))

    def choosing(self, parts: Iterable[RuntimeModel]) -> list[RuntimeModel]:
        """Return the Triton models among `parts` that have variants to choose from; all when none has."""
        known = list(parts)
        return [part for part in known if self._has_variants(part)] or known

    def fit(self, part: RuntimeModel, name: str) -> Fit:
        """Return whether a Triton model can be run by the profile `name` on this machine, and why not.

        The engine is looked at, its files hashed, only where the machine could run it.
        """
        folder = self._source / part.folder
        path, profile = variant_config(folder, name), parse_profile(name)
        if path is None or profile is None:
            return Fit(None, (self._unknown(part, name),))
        variant = Variant(name, path, gpu_instances=self._wanted.gpu_instances)
        config = adapted_config(part, variant)
        built = profile.engine and not variant.is_default
        weights = _weights(part, profile.bytes_a_weight if built else None)
        if reasons := misfits(profile, config, weights, self._instances(config), self._machine):
            return Fit(None, tuple(reasons))
        try:
            if built:
                engine = self._cache.require(part.name, profile.name, self.live(part, profile))
                files = {file: engine.path(file) for file in engine.files}
                variant = replace(variant, engine_files=files, shapes=engine.key.shapes)
            if part.other_files is not None and not variant.is_default:
                part.other_files(config)
        except (EngineError, StartupError, ModelStoreError) as error:
            return Fit(None, (str(error),))
        return Fit(variant)

    def live(self, part: RuntimeModel, profile: Profile) -> dict[str, str]:
        """Return the fields of an engine's key that this machine and the model store know."""
        fields = machine_fields(self._machine, profile)
        if part.graph is not None:
            fields["source_sha256"] = part.artifacts[part.graph].resolve().name  # blobs are named by their digest
        return fields

    def _asked_for(self, part: RuntimeModel, name: str) -> Variant:
        found = self.fit(part, name)
        if found.variant is None:
            raise StartupError(f"profile '{name}' cannot be used for '{part.name}': {'; '.join(found.reasons)}")
        return found.variant

    def _best(self, parts: Sequence[RuntimeModel]) -> tuple[dict[str, Variant], list[str]]:
        """Return the best variants that all parts can be run by, of those that are taken by themselves.

        With them for every better profile a text that says why it was passed over.
        """
        default = {part.name: default_variant(self._source / part.folder) for part in parts}
        passed_over: list[str] = []
        for name in self.profiles(parts) if parts else []:
            profile = parse_profile(name)
            if profile is None or not profile.automatic or all(one.profile == name for one in default.values()):
                continue
            fits = {part.name: self.fit(part, name) for part in parts}
            found = {part: fit.variant for part, fit in fits.items() if fit.variant is not None}
            if len(found) == len(parts):
                return found, passed_over
            why = next(fit.reasons for fit in fits.values() if fit.reasons)
            passed_over.append(f"{name} ({'; '.join(why)})")
        return default, passed_over

    def _log(self, model: str, profiles: Sequence[str], passed_over: Sequence[str]) -> None:
        text = f"'{model}' runs by profile {'+'.join(dict.fromkeys(profiles))}"
        if passed_over:
            text += f"; better ones were passed over: {', '.join(passed_over)}"
        # On a machine with a GPU it is a surprise when the GPU is not used.
        _log.log(logging.WARNING if passed_over and self._machine.gpus else logging.INFO, "%s", text)

    def _check_names(self, parts: Sequence[RuntimeModel]) -> None:
        """Every name in the settings must mean something: a typing error would be a silent fallback."""
        models = {name for part in parts for name in (part.name, model_of(part))}
        if stray := sorted(self._wanted.profiles.keys() - models):
            known = ", ".join(sorted({model_of(part) for part in parts}))
            raise StartupError(f"profiles: there is no model '{stray[0]}' here; there are: {known}")
        for part in parts:
            name = self._wanted.of(part)
            explicit = part.name in self._wanted.profiles
            if name and (explicit or self._has_variants(part) or self._is_alone(part, parts)):
                self._check_name(part, name)

    def _check_name(self, part: RuntimeModel, name: str) -> None:
        if parse_profile(name) is None or variant_config(self._source / part.folder, name) is None:
            raise StartupError(self._unknown(part, name))

    def _unknown(self, part: RuntimeModel, name: str) -> str:
        known = ", ".join(best_first(variants(self._source / part.folder)))
        if parse_profile(name) is None:
            return (
                f"profile '{name}' does not exist; known are {', '.join(known_profiles())}; '{part.name}' has: {known}"
            )
        return f"profile '{name}' does not exist for '{part.name}'; it has: {known}"

    def _has_variants(self, part: RuntimeModel) -> bool:
        return len(variants(self._source / part.folder)) > 1

    def _is_alone(self, part: RuntimeModel, parts: Sequence[RuntimeModel]) -> bool:
        """Whether no part of the same model has variants: then its only profile is what a name must mean."""
        return not any(self._has_variants(other) for other in parts if model_of(other) == model_of(part))

    def _instances(self, config: model_config_pb2.ModelConfig) -> int:
        kind = model_config_pb2.ModelInstanceGroup.KIND_CPU
        on_cpu = bool(config.instance_group) and config.instance_group[0].kind == kind
        if on_cpu and not has_fixed_instances(config):
            return self._cpu_threads
        return max((group.count for group in config.instance_group), default=1)


def _weights(part: RuntimeModel, bytes_a_weight: float | None) -> int:
    """Return the bytes of weights as executed: those of the artifacts, or what an engine makes of the graph."""
    graph = list(part.artifacts.values()) if part.graph is None else [part.artifacts[part.graph]]
    size = sum(path.stat().st_size for path in graph)
    return size if bytes_a_weight is None or part.graph is None else int(size * bytes_a_weight / SOURCE_WEIGHT_BYTES)
