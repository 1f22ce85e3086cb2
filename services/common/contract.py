"""The contract of a Triton model: tensor names, dtypes and shapes that a service relies on, whatever executes them."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.common.server import StartupError
from services.common.triton import model_config_pb2


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor without its batch dimension: KServe dtype (FP32, INT64, BYTES, ...) and shape, -1 for a free length."""

    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contract:
    """What goes in and what comes out, by tensor name. All models of Flotilla batch on the first dimension."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def datatype(data_type: int) -> str:
    """Return the KServe name of a Triton config data type: TYPE_FP32 is FP32, TYPE_STRING is BYTES."""
    name = model_config_pb2.DataType.Name(data_type).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def of_config(config: model_config_pb2.ModelConfig) -> Contract:
    """Return the contract that a config.pbtxt declares."""
    return Contract(
        {tensor.name: Tensor(datatype(tensor.data_type), tuple(tensor.dims)) for tensor in config.input},
        {tensor.name: Tensor(datatype(tensor.data_type), tuple(tensor.dims)) for tensor in config.output},
    )


def check_config(config: model_config_pb2.ModelConfig, contract: Contract) -> None:
    """Raise StartupError unless a model's configuration keeps its contract."""
    found = of_config(config)
    if found != contract:
        raise StartupError(f"the configuration of '{config.name}' breaks its contract: {found} is not {contract}")
