"""Settings that all services share, read from the environment once, in `__main__`, and handed down.

The only module of the services that looks at the environment. Each field's docstring is its documentation.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.common.cpu import available_cpus
from services.common.manifest import DEFAULT_MANIFEST

REPOSITORY_ROOT = Path(__file__).resolve().parents[2]


def _pairs(text: object) -> object:
    """Return the dictionary of "name=value,name=value"; what is no text goes on as it is."""
    if not isinstance(text, str):
        return text
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if wrong := next(("".join(pair) for pair in pairs if not (pair[0].strip() and pair[2].strip())), None):
        raise ValueError(f"'{wrong}' is not of the form model=profile")
    names = [name.strip() for name, _, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"'{twice}' is there twice")
    return {name.strip(): value.strip() for name, _, value in pairs}


class CommonSettings(BaseSettings):
    """`FLOTILLA_...`: the same for every service of a machine."""

    model_config = SettingsConfigDict(
        env_prefix="FLOTILLA_", env_ignore_empty=True, use_attribute_docstrings=True, extra="ignore"
    )

    model_store: Path = Field(default_factory=lambda: _cache_home() / "flotilla" / "models")
    """Folder of the content-addressed model store that `tools/models` fills."""
    model_manifest: Path = DEFAULT_MANIFEST
    """The model manifest: which models there are, from where, and their facts. See docs/models.md."""
    state_dir: Path = REPOSITORY_ROOT / ".flotilla"
    """Folder for what a running service writes: runtime repositories, logs. Nothing in it is precious."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe level that is logged: DEBUG, INFO, WARNING or ERROR."""
    cpu_threads: int = Field(default_factory=available_cpus, ge=1)
    """Threads the engines of this service may use. Default: CPU affinity and the cgroup quota, whichever is less."""
    drain_propagation_seconds: float = Field(default=5.0, ge=0, le=300)
    """After SIGTERM: how long new calls are still accepted while load balancers notice that readiness is gone."""
    drain_grace_seconds: float = Field(default=30.0, ge=0, le=3600)
    """After that: how long calls in flight may take to finish before they are cancelled."""


class ServiceSettings(BaseSettings):
    """What every gRPC service has. Subclasses set the prefix `FLOTILLA_<SERVICE>_` and the ports."""

    model_config = SettingsConfigDict(env_ignore_empty=True, use_attribute_docstrings=True, extra="ignore")

    common: CommonSettings = Field(default_factory=lambda: load(CommonSettings))
    """The settings of the machine."""
    host: str = "127.0.0.1"
    """Address the gRPC and HTTP ports listen on."""
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """Port of the gRPC interface; 0 takes a free one."""
    http_port: int = Field(default=0, ge=0, le=65535)
    """Port of health and metrics; 0 takes a free one."""
    triton_url: str | None = None
    """host:port of the gRPC interface of a Triton to use instead of a child process of our own."""
    triton_metrics_url: str | None = None
    """Address of that Triton's metrics, for example http://127.0.0.1:8002/metrics; passed on when set."""
    profile: str | None = None
    """Execution profile for every model of the service, for example cpu-int8. Unset: the best of those that are taken
    by themselves and fit this machine; see `flotilla profiles`."""
    profiles: Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)] = Field(default_factory=dict)
    """Profiles of single models, which go before `profile`: pp-ocrv6=cpu-int8,pp_ocrv6_rec=cpu-fp32. A public model id
    or the name of one of its Triton models."""
    gpu_instances: int | None = Field(default=None, ge=1, le=64)
    """Instances of each model on each GPU, in profiles that run on GPUs. Unset: as the profile's configuration says."""
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Largest gRPC message, in and out."""
    admission_concurrency: int = Field(default=256, ge=1)
    """Calls worked on at the same time."""
    admission_queue: int = Field(default=1024, ge=0)
    """Calls that may wait for a place; more are refused with RESOURCE_EXHAUSTED."""
    admission_queue_seconds: float = Field(default=30.0, gt=0)
    """Longest wait for a place; a call that would wait longer is refused."""
    latency_objective_seconds: float = Field(default=0.25, gt=0)
    """A call is in time when it takes so long at most, and so much more for each unit of its cost (the next setting).
    Capacity, and with it `flotilla_saturation`, means the highest rate at which calls are in time."""
    latency_objective_seconds_per_unit: float = Field(default=0.0, ge=0)
    """What the objective grants for each unit of a call's cost; docs/metrics.md says what each service's unit is."""


class ExportSettings(BaseSettings):
    """`OTEL_...`: the standard variables that say whether telemetry leaves by OTLP. The exporters read the rest."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", env_ignore_empty=True, use_attribute_docstrings=True)

    sdk_disabled: str = ""
    """"true" turns every export off."""
    exporter_otlp_endpoint: str | None = None
    """Where traces and metrics go, for example http://collector:4318. Unset: nowhere."""
    exporter_otlp_traces_endpoint: str | None = None
    """Where traces go instead."""
    exporter_otlp_metrics_endpoint: str | None = None
    """Where metrics go instead."""
    traces_exporter: str = "otlp"
    """Anything but otlp turns the export of traces off."""
    metrics_exporter: str = "otlp"
    """Anything but otlp turns the export of metrics off."""
    exporter_otlp_protocol: str = "http/protobuf"
    """http/protobuf or grpc."""

    @property
    def traces(self) -> bool:
        """Whether traces are exported."""
        endpoint = self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint
        return self._enabled and endpoint is not None and self.traces_exporter == "otlp"

    @property
    def traces_url(self) -> str | None:
        """Where spans are posted by HTTP, None where they are not."""
        if not self.traces or self.exporter_otlp_protocol == "grpc":
            return None
        base = self.exporter_otlp_endpoint
        return self.exporter_otlp_traces_endpoint or (f"{base.rstrip('/')}/v1/traces" if base else None)

    @property
    def metrics(self) -> bool:
        """Whether metrics are exported."""
        endpoint = self.exporter_otlp_metrics_endpoint or self.exporter_otlp_endpoint
        return self._enabled and endpoint is not None and self.metrics_exporter == "otlp"

    @property
    def _enabled(self) -> bool:
        return self.sdk_disabled.lower() != "true"


_Settings = TypeVar("_Settings", bound=BaseSettings)


def load(settings: type[_Settings]) -> _Settings:
    """Return the settings from the environment, or stop the process with one clear line for each bad value."""
    try:
        return settings()
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix", "")
        for fault in error.errors():
            name = "".join(str(part) for part in fault["loc"]).upper()
            reason = fault["msg"].removeprefix("Value error, ")
            print(f"{prefix}{name}={fault['input']!r}: {reason}", file=sys.stderr)
        sys.exit(2)


_ENGINE_VARIABLES = ("CUDA_", "NVIDIA_", "NCCL_", "VLLM_")


def child_environment() -> Mapping[str, str]:
    """Return the part of our environment that a child process needs to find its home, libraries and GPUs."""
    names = ("HOME", "LD_LIBRARY_PATH")
    return {key: value for key, value in os.environ.items() if key in names or key.startswith(_ENGINE_VARIABLES)}


def tensorrt_release() -> str:
    """Return the release of TensorRT that NVIDIA's images name in their environment; "" elsewhere."""
    return _NvidiaImage().trt_version


def _cache_home() -> Path:
    return _CacheHome().xdg_cache_home or Path.home() / ".cache"


class _CacheHome(BaseSettings):
    xdg_cache_home: Path | None = None


class _NvidiaImage(BaseSettings):
    trt_version: str = ""
