"""Settings of the embedding service: `FLOTILLA_EMBEDDING_...`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class EmbeddingSettings(ServiceSettings):
    """See the docstring of each field."""

    model_config = SettingsConfigDict(env_prefix="FLOTILLA_EMBEDDING_")

    grpc_port: int = Field(default=50062, ge=0, le=65535)
    """Port of the gRPC interface; 0 takes a free one."""
    http_port: int = Field(default=9062, ge=0, le=65535)
    """Port of health and metrics; 0 takes a free one."""
    latency_objective_seconds_per_unit: float = Field(default=0.001, ge=0)
    """What the latency objective grants for each token."""
    max_inputs: int = Field(default=2048, ge=1)
    """Inputs in one request, and passages in one ranking."""
    max_input_characters: int = Field(default=200_000, ge=1)
    """Characters of one input, before it is tokenised (and truncated, where the caller allows that)."""
    max_batch_items: int = Field(default=16, ge=1, le=32)
    """Inputs in one batch for the engine."""
    max_batch_tokens: int = Field(default=4096, ge=1)
    """Padded tokens in one batch for the engine."""
    batch_timeout_seconds: float = Field(default=60.0, gt=0)
    """Longest time the engine may take for a batch before its calls fail."""
