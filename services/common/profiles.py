"""Execution profiles: how a Triton model's contract is executed, and which of them fit a machine."""

from services.common.triton import model_config_pb2

DEFAULT_PROFILE = "cpu-fp32"
PARAMETER = "profile"
"""Parameter of a config.pbtxt that names its profile where that is not the default one."""


def profile_of(config: model_config_pb2.ModelConfig) -> str:
    """Return the profile that a model of the runtime repository runs by: `profile_of(parts.configs[triton_name])`.

    The start-up writes the chosen profile into every configuration; in model_repository/ a config.pbtxt names its own
    by the parameter "profile" where it is not cpu-fp32.
    """
    return config.parameters[PARAMETER].string_value if PARAMETER in config.parameters else DEFAULT_PROFILE
