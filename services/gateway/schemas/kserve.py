"""Requests of KServe v2 over HTTP, with Triton's extensions.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PrivateAttr

from services.gateway.schemas.common import RequestBody, Text

MOST_TENSORS, MOST_DIMENSIONS = 64, 32
Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Parameters = dict[Text, bool | Int64 | float | Text]


class InferInput(RequestBody):
    """One input tensor."""

    name: Text
    """Its name, as in the model's metadata."""
    shape: Annotated[list[Annotated[int, Field(ge=0, le=2**63 - 1)]], Field(max_length=MOST_DIMENSIONS)]
    """Its dimensions, the batch first."""
    datatype: Datatype
    """Type of its elements."""
    parameters: Parameters = Field(default_factory=dict)
    """`binary_data_size`: its bytes follow the JSON, so many of them."""
    data: Any = None
    """Its elements in row-major order, flat or nested."""


class InferOutput(RequestBody):
    """One output tensor that is asked for."""

    name: Text
    """Its name, as in the model's metadata."""
    parameters: Parameters = Field(default_factory=dict)
    """`binary_data`: whether its bytes follow the JSON. `classification`: the so many highest values, as texts."""


class InferRequest(RequestBody):
    """An inference."""

    id: Text = ""
    """Comes back in the answer."""
    parameters: Parameters = Field(default_factory=dict)
    """`binary_data_output`: whether outputs come as bytes after the JSON unless they say otherwise. The others go on to
    the model."""
    inputs: Annotated[list[InferInput], Field(min_length=1, max_length=MOST_TENSORS)]
    """All inputs of the model."""
    outputs: Annotated[list[InferOutput], Field(max_length=MOST_TENSORS)] = Field(default_factory=list)
    """The outputs to return; none: all of them."""

    _binary: bytes = PrivateAttr(b"")

    @property
    def binary(self) -> bytes:
        """What followed the JSON in the body: the tensors that have a `binary_data_size`, one after the other."""
        return self._binary

    def follow_by(self, binary: bytes) -> None:
        """Say what followed the JSON."""
        self._binary = binary


class GenerateRequest(BaseModel, extra="allow"):
    """An inference as Triton's generate extension has it: a field for every input, others are parameters."""

    id: Text = ""
    """Comes back in the answer."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Inputs too, or parameters for the model."""


class RepositoryIndexRequest(RequestBody):
    """What to list."""

    ready: bool = False
    """Only models that are ready."""


class ModelReady(BaseModel):
    """Whether a model can be asked."""

    object: str = "health.response"
    message: str
    """The state of its service."""
    ready: bool


class KServeError(BaseModel):
    """The body of every error under /v2."""

    error: str
    """A sentence for people; it names the field at fault."""
