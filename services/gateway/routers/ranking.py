"""`POST /v1/ranking` (NIM) and `POST /v1/rerank` (Cohere, Jina): the same call in two public shapes."""

from typing import Any

import orjson
from fastapi import APIRouter
from flotilla.embedding.v1 import embedding_pb2
from starlette.responses import Response

from services.common import request_context
from services.gateway.backends import Backend, Method
from services.gateway.errors import RESPONSES, public_names
from services.gateway.json_route import JsonRoute
from services.gateway.schemas.common import TimeoutMs, seconds
from services.gateway.schemas.ranking import RankingRequest, RankingResponse, RerankRequest, RerankResponse

RANK = Method("/flotilla.embedding.v1.EmbeddingService/Rank", embedding_pb2.RankRequest, embedding_pb2.RankResponse)


def create_router(embedding: Backend) -> APIRouter:
    """Return the routes, served by the service behind `embedding`."""
    router = APIRouter(route_class=JsonRoute, tags=["ranking"])

    @router.post("/v1/ranking", responses={200: {"model": RankingResponse}, **RESPONSES})
    async def rank(body: RankingRequest, timeout_ms: TimeoutMs = None) -> Response:
        """Order passages by their closeness to a query, best first."""
        request = embedding_pb2.RankRequest(
            model=body.model,
            query=body.query.text,
            passages=[passage.text for passage in body.passages],
            truncate=embedding_pb2.Truncate.Value(f"TRUNCATE_{body.truncate}"),
        )
        reply = await embedding.call(RANK, request, seconds(timeout_ms))
        tokens = reply.usage.prompt_tokens
        return _json(
            {
                "rankings": [{"index": ranking.index, "logit": ranking.score} for ranking in reply.rankings],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    @router.post("/v1/rerank", responses={200: {"model": RerankResponse}, **RESPONSES})
    async def rerank(body: RerankRequest, timeout_ms: TimeoutMs = None) -> Response:
        """Order documents by their closeness to a query, best first. What is too long loses its end."""
        request = embedding_pb2.RankRequest(
            model=body.model,
            query=body.query,
            passages=body.documents,
            truncate=embedding_pb2.TRUNCATE_END,
            top_n=body.top_n or 0,
        )
        with public_names({"passages": "documents"}):
            reply = await embedding.call(RANK, request, seconds(timeout_ms))
        return _json(
            {
                "id": request_context.request_id.get(),
                "model": reply.model,
                "results": [_result(ranking, body) for ranking in reply.rankings],
                "usage": {"total_tokens": reply.usage.prompt_tokens},
            }
        )

    return router


def _result(ranking: embedding_pb2.Ranking, body: RerankRequest) -> dict[str, Any]:
    result: dict[str, Any] = {"index": ranking.index, "relevance_score": ranking.score}
    if body.return_documents:
        result["document"] = {"text": body.documents[ranking.index]}
    return result


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
