"""The parameters of the configuration."""

from dataclasses import dataclass

ENGINE = "engine."


@dataclass(frozen=True, slots=True)
class Settings:
    """How the engine runs."""

    threads: int
    context_length: int
    vocabulary_size: int
    eos_token_ids: tuple
    max_running: int
    kv_blocks: int
    max_batched_tokens: int
    hold_seconds: float
    hold_from_streams: int
    engine: dict
    """Properties of OpenVINO."""


def read_settings(parameters):
    """Return the settings of a configuration's parameters, texts by key."""
    return Settings(
        threads=int(parameters["threads"]),
        context_length=int(parameters["context_length"]),
        vocabulary_size=int(parameters["vocabulary_size"]),
        eos_token_ids=tuple(int(token) for token in parameters["eos_token_ids"].split(",")),
        max_running=int(parameters["max_running"]),
        kv_blocks=int(parameters["kv_blocks"]),
        max_batched_tokens=int(parameters["max_batched_tokens"]),
        hold_seconds=int(parameters["hold_milliseconds"]) / 1000,
        hold_from_streams=int(parameters["hold_from_streams"]),
        engine={key.removeprefix(ENGINE): value for key, value in parameters.items() if key.startswith(ENGINE)},
    )
