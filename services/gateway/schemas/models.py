"""`GET /v1/models` as OpenAI has it, with `root` as vLLM and NIM add it."""

from typing import Literal

from pydantic import BaseModel


class ModelRow(BaseModel):
    """One model that is loaded."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When this gateway started, in Unix seconds."""
    owned_by: str = "flotilla"
    root: str
    max_model_len: int | None = None
    """Longest prompt and answer of a language model together, in tokens; vLLM's addition."""


class ModelsResponse(BaseModel):
    """The models that are loaded."""

    object: Literal["list"] = "list"
    data: list[ModelRow]
