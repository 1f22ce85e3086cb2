from typing import Any

import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb

from tests.integration.gateway.fake_embedding import MODEL, FakeEmbedding
from tests.integration.gateway.gateway import Gateway

RANKING: dict[str, Any] = {"model": MODEL, "query": {"text": "q"}, "passages": [{"text": "a"}, {"text": "bbb"}]}
RERANK: dict[str, Any] = {"model": MODEL, "query": "q", "documents": ["a", {"text": "bbb"}]}


async def test_ranking_in_the_shape_of_nim(gateway: Gateway, embedding: FakeEmbedding) -> None:
    body = (await gateway.http.post("/v1/ranking", json=RANKING)).json()
    assert body["rankings"] == [{"index": 1, "logit": 3.0}, {"index": 0, "logit": 1.0}]
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert embedding.requests[-1].truncate == pb.TRUNCATE_NONE


async def test_rerank_in_the_shape_of_cohere_and_jina(gateway: Gateway, embedding: FakeEmbedding) -> None:
    body = (await gateway.http.post("/v1/rerank", json=RERANK | {"top_n": 1})).json()
    assert body["results"] == [{"index": 1, "relevance_score": 3.0}]
    assert (body["model"], body["usage"]) == (MODEL, {"total_tokens": 7})
    assert embedding.requests[-1].truncate == pb.TRUNCATE_END


async def test_rerank_returns_documents_when_asked(gateway: Gateway) -> None:
    body = (await gateway.http.post("/v1/rerank", json=RERANK | {"return_documents": True})).json()
    assert [row["document"]["text"] for row in body["results"]] == ["bbb", "a"]


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("ranking", RANKING | {"passages": []}, "passages"),
        ("ranking", RANKING | {"passages": [{"text": "a"}, {"txt": "b"}]}, "passages[1].text"),
        ("ranking", RANKING | {"passages": [{"text": ""}]}, "passages[0]"),
        ("ranking", RANKING | {"query": "q"}, "query"),
        ("ranking", RANKING | {"passages": [{"text": "a"}] * 2049}, "passages"),
        ("rerank", RERANK | {"documents": ["a"] * 2049}, "documents"),
        ("ranking", RANKING | {"query": {"text": 1}}, "query.text"),
        ("ranking", RANKING | {"top_n": 1}, "top_n"),
        ("rerank", RERANK | {"documents": ["a", 1]}, "documents[1]"),
        ("rerank", RERANK | {"documents": ["a", {"title": "b"}]}, "documents[1].text"),
        ("rerank", RERANK | {"documents": "a"}, "documents"),
        ("rerank", RERANK | {"documents": ["a", ""]}, "documents[1]"),
        ("rerank", RERANK | {"top_n": 0}, "top_n"),
    ],
)
async def test_bad_values_are_refused_by_name(gateway: Gateway, route: str, body: dict[str, Any], param: str) -> None:
    response = await gateway.http.post(f"/v1/{route}", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(("route", "body"), [("ranking", RANKING), ("rerank", RERANK)])
async def test_lone_surrogates_are_refused_by_name(gateway: Gateway, route: str, body: dict[str, Any]) -> None:
    import json

    raw = json.dumps(body).replace('"bbb"', '"\\ud800"')
    response = await gateway.http.post(f"/v1/{route}", content=raw, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] in ("passages[1].text", "documents[1].text")
