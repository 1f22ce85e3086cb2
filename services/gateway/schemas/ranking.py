"""`POST /v1/ranking` as NIM has it, and `POST /v1/rerank` as Cohere and Jina have it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator

from services.gateway.schemas.common import MOST_ITEMS, ModelId, RequestBody, Text, count, fault, text


class TextObject(RequestBody):
    """A text."""

    text: Text


class RankingRequest(RequestBody):
    """Passages to put in the order of their closeness to a query."""

    model: ModelId
    query: TextObject
    passages: list[TextObject] = Field(min_length=1, max_length=MOST_ITEMS)
    """1 to 2,048 passages."""
    truncate: Literal["NONE", "START", "END"] = "NONE"
    """What happens to a text over the model's limit: an error, or tokens dropped from the start or the end."""


class Ranking(BaseModel):
    """The score of one passage."""

    index: int
    """Position of the passage in the request, from 0."""
    logit: float
    """Cosine similarity to the query."""


class RankingUsage(BaseModel):
    """What the request has used."""

    prompt_tokens: int
    total_tokens: int


class RankingResponse(BaseModel):
    """All passages, best first."""

    rankings: list[Ranking]
    usage: RankingUsage


def _read_documents(value: Any) -> list[str]:
    """Return the texts. One sentence, where a union would report every branch."""
    if not isinstance(value, list):
        raise fault("documents", "must be a list of strings, or of objects with text")
    count("documents", value)
    return [_document(f"documents[{i}]", item) for i, item in enumerate(value)]


def _document(field: str, value: Any) -> str:
    if isinstance(value, dict):
        return text(f"{field}.text", value.get("text"))
    if not isinstance(value, str):
        raise fault(field, "must be a string or an object with text")
    return text(field, value)


class RerankRequest(RequestBody):
    """Documents to put in the order of their closeness to a query."""

    model: ModelId
    query: Text
    documents: Annotated[list[str], PlainValidator(_read_documents, json_schema_input_type=list[str | TextObject])]
    """1 to 2,048 documents: strings, or objects with `text`."""
    top_n: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Return only the best so many."""
    return_documents: bool | None = None
    """Whether the results carry the texts. Default: they do not."""


class RerankResult(BaseModel):
    """The score of one document."""

    index: int
    """Position of the document in the request, from 0."""
    relevance_score: float
    """Cosine similarity to the query."""
    document: TextObject | None = None
    """The text, where `return_documents` asks for it."""


class RerankUsage(BaseModel):
    """What the request has used."""

    total_tokens: int


class RerankResponse(BaseModel):
    """Documents, best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: RerankUsage
