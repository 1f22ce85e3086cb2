"""flotilla.embedding.v1: proto in, proto out, validation. No tensors, no text processing."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc

from services.common.admission import Admission
from services.common.errors import Kind, ServiceError, invalid
from services.common.request_context import priority_of
from services.embedding import vectors
from services.embedding.embedder import Embedder, Text
from services.embedding.settings import EmbeddingSettings
from services.embedding.tokenizer import Truncate

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["EmbeddingService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]

_TRUNCATE = {
    pb.TRUNCATE_UNSPECIFIED: Truncate.NONE,
    pb.TRUNCATE_NONE: Truncate.NONE,
    pb.TRUNCATE_START: Truncate.START,
    pb.TRUNCATE_END: Truncate.END,
}


class EmbeddingServicer(embedding_pb2_grpc.EmbeddingServiceServicer):
    """Embeds and ranks with the models it is given."""

    def __init__(self, embedders: Mapping[str, Embedder], admission: Admission, settings: EmbeddingSettings) -> None:
        self._embedders, self._admission, self._settings = embedders, admission, settings

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """See the contract."""
        embedder = self._embedder(request.model)
        dimensions = _dimensions(request.dimensions, embedder)
        output_type = _output_type(request.output_type)
        truncate = _truncate(request.truncate)
        texts = self._inputs(request, embedder)
        cost, priority = embedder.cost(texts), priority_of(context)
        async with self._admission.admit_call(cost, context):
            embedded = await embedder.embed(texts, truncate, priority)
        rows = vectors.convert(vectors.shorten(embedded.vectors, dimensions), output_type)
        return pb.EmbedResponse(
            model=embedder.id,
            embeddings=[
                pb.Embedding(index=index, data=row.tobytes(), tokens=tokens)
                for index, (row, tokens) in enumerate(zip(rows, embedded.tokens, strict=True))
            ],
            dimensions=dimensions,
            output_type=pb.OutputType.ValueType(output_type.value),
            usage=pb.Usage(prompt_tokens=sum(embedded.tokens)),
        )

    async def Rank(self, request: pb.RankRequest, context: Context) -> pb.RankResponse:
        """See the contract."""
        embedder = self._embedder(request.model)
        truncate = _truncate(request.truncate)
        self._check_count("passages", len(request.passages))
        facts = embedder.facts
        texts = [
            self._text("query", request.query, facts.query_prefix),
            *(self._text(f"passages[{i}]", p, facts.passage_prefix) for i, p in enumerate(request.passages)),
        ]
        cost, priority = embedder.cost(texts), priority_of(context)
        async with self._admission.admit_call(cost, context):
            embedded = await embedder.embed(texts, truncate, priority)
        scores = embedded.vectors[1:] @ embedded.vectors[0]
        best = np.argsort(-scores, kind="stable")[: request.top_n or None]
        return pb.RankResponse(
            model=embedder.id,
            rankings=[pb.Ranking(index=int(index), score=float(scores[index])) for index in best],
            usage=pb.Usage(prompt_tokens=sum(embedded.tokens)),
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """See the contract."""
        return pb.ListModelsResponse(models=[_model(embedder) for embedder in self._embedders.values()])

    def _embedder(self, name: str) -> Embedder:
        if not name and len(self._embedders) == 1:
            return next(iter(self._embedders.values()))
        if name not in self._embedders:
            loaded = ", ".join(self._embedders)
            message = f"model '{name}' does not exist; loaded: {loaded}"
            raise ServiceError(Kind.NOT_FOUND, message, field="model", code="model_not_found")
        return self._embedders[name]

    def _inputs(self, request: pb.EmbedRequest, embedder: Embedder) -> list[Text]:
        self._check_count("inputs", len(request.inputs))
        prefix = {
            pb.INPUT_TYPE_UNSPECIFIED: "",
            pb.INPUT_TYPE_QUERY: embedder.facts.query_prefix,
            pb.INPUT_TYPE_PASSAGE: embedder.facts.passage_prefix,
        }.get(request.input_type)
        if prefix is None:
            raise invalid("input_type", f"input_type: {request.input_type} is not a value of InputType")
        return [self._input(f"inputs[{index}]", item, prefix) for index, item in enumerate(request.inputs)]

    def _input(self, field: str, item: pb.Input, prefix: str) -> Text:
        if item.WhichOneof("value") == "tokens":
            ids = list(item.tokens.ids)
            if not ids:
                raise invalid(field, f"{field} is empty; give at least one token id")
            self._check_size(field, ids, "token ids")
            return Text(field, ids)
        return self._text(field, item.text, prefix)

    def _text(self, field: str, text: str, prefix: str) -> Text:
        if not text:
            raise invalid(field, f"{field} is empty; give at least one character")
        self._check_size(field, text, "characters")
        return Text(field, prefix + text)

    def _check_size(self, field: str, value: str | Sequence[int], unit: str) -> None:
        limit = self._settings.max_input_characters
        if len(value) > limit:
            raise invalid(field, f"{field} has {len(value)} {unit}; the limit is {limit}")

    def _check_count(self, field: str, count: int) -> None:
        if not 1 <= count <= self._settings.max_inputs:
            raise invalid(field, f"{field} has {count} items; it takes 1 to {self._settings.max_inputs}")


def _dimensions(asked: int, embedder: Embedder) -> int:
    allowed = embedder.facts.allowed_dimensions
    if asked and asked not in allowed:
        values = ", ".join(map(str, allowed))
        raise invalid("dimensions", f"dimensions is {asked}; '{embedder.id}' was trained for: {values}")
    return asked or embedder.facts.dimensions


def _output_type(value: int) -> vectors.OutputType:
    try:
        return vectors.OutputType(value or pb.OUTPUT_TYPE_FLOAT)
    except ValueError:
        raise invalid("output_type", f"output_type: {value} is not a value of OutputType") from None


def _truncate(value: pb.Truncate.ValueType) -> Truncate:
    if value not in _TRUNCATE:
        raise invalid("truncate", f"truncate: {value} is not a value of Truncate")
    return _TRUNCATE[value]


def _model(embedder: Embedder) -> pb.Model:
    facts = embedder.facts
    return pb.Model(
        id=embedder.id,
        dimensions=facts.dimensions,
        allowed_dimensions=facts.allowed_dimensions,
        max_tokens=facts.max_tokens,
        triton_model=embedder.triton_name,
        triton_text_model=f"{embedder.triton_name}_text",
        license=embedder.license,
        profile=embedder.profile,
    )
