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
    latency_objective_seconds: float = Field(default=1.0, gt=0)
    """An answer is in time when it takes so long at most, and so much more for each of its tokens, the prompt's too."""
    latency_objective_seconds_per_unit: float = Field(default=0.05, ge=0)
    """What the latency objective grants for each token."""
    admission_concurrency: int = Field(default=32, ge=1)
    """Answers generated at the same time: the slots of the engine. Every one of a call's `n` answers takes one."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory that the engine on vLLM takes, weights and KV cache; less where others share the GPU."""
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
