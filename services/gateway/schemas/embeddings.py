"""`POST /v1/embeddings`: OpenAI's fields and those NIM adds."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator

from services.gateway.schemas.common import ModelId, RequestBody, Text, count, fault, text, token_ids

_Accepted = str | list[str] | list[int] | list[list[int]]


def _read_input(value: Any) -> list[str] | list[list[int]]:
    """Return the inputs as a list. One pass and one sentence, where a union would report every branch."""
    if isinstance(value, str):
        return [text("input", value)]
    if not isinstance(value, list):
        raise fault("input", "must be a string, a list of strings, a list of token ids, or a list of such lists")
    first = value[0] if value else ""
    if isinstance(first, str | list):
        count("input", value)
    if isinstance(first, str):
        return [text(f"input[{i}]", item) for i, item in enumerate(value)]
    if isinstance(first, list):
        return [token_ids(f"input[{i}]", item) for i, item in enumerate(value)]
    return [token_ids("input", value)]


class EmbeddingsRequest(RequestBody):
    """What to embed and how."""

    model: ModelId
    """Id of the model; the suffixes `-query` and `-passage` stand for `input_type`."""
    input: Annotated[list[str] | list[list[int]], PlainValidator(_read_input, json_schema_input_type=_Accepted)]
    """One text, 1 to 2,048 texts, the token ids of one text, or those of 1 to 2,048 texts."""
    encoding_format: Literal["float", "base64"] = "float"
    """Numbers as JSON, or their little-endian bytes as base64."""
    dimensions: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Length of the returned vectors, where the model was trained for others than its own."""
    user: Text | None = None
    """Accepted and not used."""
    input_type: Literal["query", "passage"] | None = None
    """The side of a search the inputs are on, for models that tell them apart."""
    truncate: Literal["NONE", "START", "END"] = "NONE"
    """What happens to an input over the model's limit: an error, or tokens dropped from the start or the end."""
    embedding_type: Literal["float", "int8", "uint8", "binary", "ubinary"] = "float"
    """Number format of the vectors."""
    modality: Literal["text"] | None = None
    """Kind of the inputs; there is only text."""


class Embedding(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    """Position of the input, from 0."""
    embedding: list[float] | list[int] | str
    """The numbers, or base64 of their bytes."""


class EmbeddingsUsage(BaseModel):
    """What the request has used."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """The vectors in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
