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


class KeySettings(BaseSettings):
    """`FLOTILLA_GATEWAY_...`: what the tools need to know of the gateway's keys."""

    model_config = SettingsConfigDict(
        env_prefix="FLOTILLA_GATEWAY_", env_ignore_empty=True, use_attribute_docstrings=True, extra="ignore"
    )

    keys_file: Path | None = None
    """The key file."""
    allow_keyless: bool = False
    """Listen on an address that others reach, and ask for no key."""
