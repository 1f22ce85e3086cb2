"""What the engine on vLLM is started on: weights, descriptions, a tokenizer, and 1/model.json with its arguments.

The arguments are the parameters engine.* of the configuration, JSON values, and what depends on model and machine.
https://docs.vllm.ai/en/latest/configuration/engine_args.html
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.common.profiles import parse_profile, profile_of
from services.common.server import StartupError
from services.common.triton import model_config_pb2
from services.llm.vllm_spelling import Spelling

WEIGHTS, CONFIG = "vllm.safetensors", "vllm_config.json"
GENERATION, TOKENIZER = "generation_config.json", "tokenizer.json"
SOURCES = (WEIGHTS, CONFIG, GENERATION, TOKENIZER)
"""The artifacts it is made from."""
ENGINE = "engine."


def vllm_files(
    config: model_config_pb2.ModelConfig, artifacts: Mapping[str, Path], given: Mapping[str, Any]
) -> dict[str, Path | str]:
    """Return the files of the version folder by name: a Hugging Face model folder, and model.json.

    `artifacts` has those of SOURCES; `given` are the engine arguments that the service sets, the folder among them.
    Raises StartupError for a parameter that is not JSON.
    """
    described = json.loads(artifacts[CONFIG].read_text(encoding="utf-8"))
    arguments = {**engine_arguments(config), **given}
    return {
        "model.json": json.dumps(arguments, indent=1) + "\n",
        "model.safetensors": artifacts[WEIGHTS],
        "config.json": artifacts[CONFIG],
        "generation_config.json": artifacts[GENERATION],
        **Spelling(artifacts[TOKENIZER]).files(described),
    }


def engine_arguments(config: model_config_pb2.ModelConfig) -> dict[str, Any]:
    """Return the engine arguments that a configuration has, and the parallelism that its profile's name says."""
    profile = parse_profile(profile_of(config))
    parallel = (profile.tensor_parallel, profile.pipeline_parallel) if profile else (1, 1)
    arguments = {
        key.removeprefix(ENGINE): _json(key, value.string_value)
        for key, value in sorted(config.parameters.items())
        if key.startswith(ENGINE)
    }
    return {**arguments, "tensor_parallel_size": parallel[0], "pipeline_parallel_size": parallel[1]}


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise StartupError(f"the parameter {key} of the configuration is not JSON: {text!r}") from None
