"""What the environment says about a fleet on this machine, read once by the command."""

import os
from collections.abc import Mapping

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.ports import Service
from services.common.settings import CommonSettings
from tools.cli.console import Problem


class FleetSettings(CommonSettings):
    """`FLOTILLA_...`: what all services of the machine share; handed on to each of them."""


class PortSettings(BaseSettings):
    """`FLOTILLA_<SERVICE>_...`: where one service listens; unset means the table in services/common/ports.py."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True, extra="ignore")

    host: str = "127.0.0.1"
    """Address the ports listen on."""
    grpc_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the gRPC interface."""
    http_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the HTTP interface."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the gateway's metrics."""


def fleet_settings() -> FleetSettings:
    """Return the shared settings; Problem names the variable that is wrong."""
    try:
        return FleetSettings()
    except ValidationError as error:
        raise _problem("FLOTILLA_", error) from error


def port_settings(service: Service) -> PortSettings:
    """Return where the environment wants a service; Problem names the variable that is wrong."""
    prefix = service.variable("")

    class NamedPortSettings(PortSettings):
        model_config = SettingsConfigDict(env_prefix=prefix)

    try:
        return NamedPortSettings()
    except ValidationError as error:
        raise _problem(prefix, error) from error


def is_set(variable: str) -> bool:
    """Whether this process's environment says something of the variable."""
    return variable in os.environ


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with changes, for a process it starts."""
    return {**os.environ, **changes}


def _problem(prefix: str, error: ValidationError) -> Problem:
    fault = error.errors()[0]
    name = f"{prefix}{fault['loc'][0]}".upper()
    return Problem(f"{name}={fault['input']}: {fault['msg']}", f"correct or unset {name}")
