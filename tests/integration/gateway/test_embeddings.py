import base64
import json
from typing import Any

import numpy as np
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb

from services.common.errors import TABLE, Kind, ServiceError
from tests.bad_requests import BAD_BODIES, BAD_VALUES, JSON, assert_refused
from tests.integration.gateway.fake_embedding import MODEL, FakeEmbedding, vector
from tests.integration.gateway.gateway import Gateway


async def test_floats(gateway: Gateway) -> None:
    response = await gateway.embed(input=["hello", "wörld"])
    assert response.status_code == 200
    body = response.json()
    assert body["object"] == "list"
    assert body["model"] == MODEL
    assert body["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
    assert [row["index"] for row in body["data"]] == [0, 1]
    for row, text in zip(body["data"], ["hello", "wörld"], strict=True):
        assert np.array_equal(np.array(row["embedding"], "f4"), vector(text))


async def test_base64_is_the_little_endian_bytes(gateway: Gateway) -> None:
    (row,) = (await gateway.embed(encoding_format="base64")).json()["data"]
    assert base64.b64decode(row["embedding"]) == vector("hello").tobytes()


@pytest.mark.parametrize("embedding_type", ["int8", "uint8", "binary", "ubinary"])
async def test_integer_types_in_both_encodings(gateway: Gateway, embedding_type: str) -> None:
    (numbers,) = (await gateway.embed(embedding_type=embedding_type)).json()["data"]
    assert numbers["embedding"] == [1, 2, 3, 100]
    (text,) = (await gateway.embed(embedding_type=embedding_type, encoding_format="base64")).json()["data"]
    assert base64.b64decode(text["embedding"]) == bytes([1, 2, 3, 100])


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("a", [pb.Input(text="a")]),
        (["a", "b"], [pb.Input(text="a"), pb.Input(text="b")]),
        ([7, 8], [pb.Input(tokens=pb.TokenIds(ids=[7, 8]))]),
        ([[7], [8, 9]], [pb.Input(tokens=pb.TokenIds(ids=[7])), pb.Input(tokens=pb.TokenIds(ids=[8, 9]))]),
    ],
)
async def test_every_form_of_input_reaches_the_service(
    gateway: Gateway, embedding: FakeEmbedding, given: Any, sent: list[pb.Input]
) -> None:
    assert (await gateway.embed(input=given)).status_code == 200
    assert list(embedding.requests[-1].inputs) == sent


async def test_nim_parameters_reach_the_service(gateway: Gateway, embedding: FakeEmbedding) -> None:
    await gateway.embed(input_type="passage", truncate="START", dimensions=2, user="me", modality="text")
    request = embedding.requests[-1]
    assert (request.input_type, request.truncate, request.dimensions) == (pb.INPUT_TYPE_PASSAGE, pb.TRUNCATE_START, 2)


@pytest.mark.parametrize(("suffix", "side"), [("-query", pb.INPUT_TYPE_QUERY), ("-passage", pb.INPUT_TYPE_PASSAGE)])
async def test_model_suffixes_stand_for_input_type(
    gateway: Gateway, embedding: FakeEmbedding, suffix: str, side: int
) -> None:
    assert (await gateway.embed(model=MODEL + suffix)).json()["model"] == MODEL
    assert (embedding.requests[-1].model, embedding.requests[-1].input_type) == (MODEL, side)


@pytest.mark.parametrize(("change", "status", "param"), BAD_VALUES)
async def test_bad_values_are_refused_by_name_and_the_next_request_works(
    gateway: Gateway, change: dict[str, Any], status: int, param: str
) -> None:
    assert_refused(await gateway.embed(**change), status, param)
    assert (await gateway.embed()).status_code == 200


@pytest.mark.parametrize(("raw", "param", "words"), BAD_BODIES)
async def test_bodies_that_are_no_request(gateway: Gateway, raw: bytes, param: str | None, words: str) -> None:
    assert_refused(await gateway.http.post("/v1/embeddings", content=raw, headers=JSON), 400, param, words)
    assert (await gateway.embed()).status_code == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_other_content_types_are_415(gateway: Gateway, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = await gateway.http.post("/v1/embeddings", content=b"{}", headers=headers)
    assert response.status_code == 415
    assert "application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NOT_STARTED], ids=lambda kind: kind.name)
async def test_every_kind_of_error_keeps_its_row_through_both_transports(
    gateway: Gateway, embedding: FakeEmbedding, kind: Kind
) -> None:
    embedding.fail(ServiceError(kind, "inputs[3] is odd", field="inputs[3]", code="odd", retry_after=1.2))
    response = await gateway.embed()
    assert response.status_code == TABLE[kind].http
    assert response.json()["error"] == {
        "message": "input[3] is odd",
        "type": TABLE[kind].openai,
        "param": "input[3]",
        "code": "odd",
    }
    assert response.headers["retry-after"] == "2"
    assert response.headers["retry-after-ms"] == "1200"


async def test_an_unexpected_failure_of_the_service_tells_nothing(gateway: Gateway, embedding: FakeEmbedding) -> None:
    embedding.fail(RuntimeError("secret"))
    response = await gateway.embed()
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.text


async def test_unknown_routes_and_methods(gateway: Gateway) -> None:
    missing, wrong = await gateway.http.get("/nope"), await gateway.http.get("/v1/embeddings")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_route")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_a_large_answer_comes_whole(gateway: Gateway) -> None:
    body = (await gateway.embed(input=[f"text {i}" for i in range(2048)])).json()
    assert [row["index"] for row in body["data"]] == list(range(2048))


async def test_openapi_describes_request_and_response(gateway: Gateway) -> None:
    description = (await gateway.http.get("/openapi.json")).json()
    post = description["paths"]["/v1/embeddings"]["post"]
    assert "EmbeddingsRequest" in json.dumps(post["requestBody"])
    assert "EmbeddingsResponse" in json.dumps(post["responses"]["200"])
    assert "anyOf" in description["components"]["schemas"]["EmbeddingsRequest"]["properties"]["input"]
