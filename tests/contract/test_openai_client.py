"""The unmodified OpenAI SDK against the gateway."""

from collections.abc import AsyncIterator

import numpy as np
import openai
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb

from services.common.errors import Kind, ServiceError
from tests.integration.gateway.fake_embedding import MODEL, FakeEmbedding, vector
from tests.integration.gateway.gateway import Gateway

OVERLOADED = ServiceError(Kind.OVERLOADED, "queue full", code="queue_full", retry_after=0.001)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{gateway.http_port}/v1", api_key="none") as sdk:
        yield sdk


async def test_embeddings_with_the_sdks_own_defaults(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model=MODEL, input=["hello", "world"])
    assert [row.index for row in answer.data] == [0, 1]
    assert np.array_equal(np.array(answer.data[0].embedding, "f4"), vector("hello"))
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == (MODEL, 10, 10)


async def test_embeddings_as_floats_equal_those_as_base64(client: openai.AsyncOpenAI) -> None:
    floats = await client.embeddings.create(model=MODEL, input="hello", encoding_format="float")
    packed = await client.embeddings.create(model=MODEL, input="hello")
    assert np.array_equal(np.array(floats.data[0].embedding, "f4"), np.array(packed.data[0].embedding, "f4"))


async def test_nim_parameters_by_extra_body(client: openai.AsyncOpenAI, embedding: FakeEmbedding) -> None:
    await client.embeddings.create(model=MODEL, input="a", extra_body={"input_type": "query", "truncate": "END"})
    assert (embedding.requests[-1].input_type, embedding.requests[-1].truncate) == (
        pb.INPUT_TYPE_QUERY,
        pb.TRUNCATE_END,
    )


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).owned_by == "flotilla"


async def test_errors_arrive_as_the_sdks_own(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.embeddings.create(model="nope", input="a")
    assert missing.value.code == "model_not_found"
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as refused:
        await client.embeddings.create(model=MODEL, input="")
    assert refused.value.param == "input[0]"
    assert refused.value.type == "invalid_request_error"


async def test_overload_is_retried_by_the_sdk_after_the_time_it_is_told(
    client: openai.AsyncOpenAI, embedding: FakeEmbedding
) -> None:
    embedding.fail(OVERLOADED, times=2)
    answer = await client.embeddings.create(model=MODEL, input="hello")
    assert len(answer.data) == 1
    assert len(embedding.requests) == 3


async def test_overload_that_lasts_is_a_rate_limit_error(client: openai.AsyncOpenAI, embedding: FakeEmbedding) -> None:
    embedding.fail(OVERLOADED)
    with pytest.raises(openai.RateLimitError) as caught:
        await client.with_options(max_retries=0).embeddings.create(model=MODEL, input="hello")
    assert caught.value.response.headers["retry-after"] == "1"


async def test_the_sdk_reports_the_request_id(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.with_raw_response.create(
        model=MODEL, input="a", extra_headers={"x-request-id": "q"}
    )
    assert answer.headers["x-request-id"] == "q"
