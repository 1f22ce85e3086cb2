"""Settings of the tools, read from the environment."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.manifest import DEFAULT_MANIFEST
from services.common.settings import CommonSettings


class ToolSettings(CommonSettings):
    """`FLOTILLA_...`: what the tools need beside the settings of the machine."""

    model_manifest: Path = DEFAULT_MANIFEST
    """The model manifest; a copy of `models.toml` with entries of your own, for example."""
    torch_index_url: str | None = None
    """Package index to take torch from, beside pip's own; https://download.pytorch.org/whl/cpu has CPU builds."""


class _KeySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FLOTILLA_GATEWAY_", env_ignore_empty=True, extra="ignore")

    keys_file: Path | None = None


def key_file_setting() -> Path | None:
    """Return the key file that the environment names for the gateway."""
    return _KeySettings().keys_file
