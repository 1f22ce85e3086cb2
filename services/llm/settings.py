"""Settings of the LLM service: `FLOTILLA_LLM_...`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class LlmSettings(ServiceSettings):
    """See the docstring of each field."""

    model_config = SettingsConfigDict(env_prefix="FLOTILLA_LLM_")

    grpc_port: int = Field(default=50061, ge=0, le=65535)
    """Port of the gRPC interface; 0 takes a free one."""
    http_port: int = Field(default=9061, ge=0, le=65535)
    """Port of health and metrics; 0 takes a free one."""
    admission_concurrency: int = Field(default=32, ge=1)
    """Answers generated at the same time: the slots of the engine. Every one of a call's `n` answers takes one."""
    max_prompt_characters: int = Field(default=1_000_000, ge=1)
    """Characters of one prompt or conversation, before it is tokenised."""
    statistics_seconds: float = Field(default=0.5, gt=0, le=60)
    """How often the engine is asked for its statistics, which also shows whether it is alive."""
    engine_silence_seconds: float = Field(default=30.0, gt=0)
    """After this long without an answer to that question the engine counts as dead, and open streams end."""
    score_timeout_seconds: float = Field(default=120.0, gt=0)
    """Longest time one pass over a prompt for its log-probabilities may take."""
    grammar_timeout_seconds: float = Field(default=30.0, gt=0)
    """Longest time the check of one grammar may take, its wait for others included."""
    grammar_cache: int = Field(default=1024, ge=1)
    """How many grammars, compiled and checked, are remembered."""
