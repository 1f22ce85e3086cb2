"""The same vectors on every path, and equal to what sentence-transformers computes."""

import asyncio
import json

import numpy as np
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb

from services.common.triton import TritonClient
from services.embedding.tokenizer import Truncate
from tests.integration.conftest import MODEL
from tests.integration.service_process import ROOT

COSINE = 0.9999


@pytest.fixture(scope="module")
def reference():
    with np.load(ROOT / "tests/data/minilm_reference.npz") as data:
        return json.loads(str(data["texts"])), data["vectors"]


@pytest.fixture
async def triton(service):
    async with TritonClient(service.address) as client:
        yield client


def request(texts, **fields):
    return pb.EmbedRequest(inputs=[pb.Input(text=text) for text in texts], truncate=pb.TRUNCATE_END, **fields)


def floats(response):
    return np.array([np.frombuffer(e.data, "<f4") for e in response.embeddings])


def closeness(vectors, expected):
    return (vectors * expected).sum(axis=1).min()


async def test_embed_equals_the_original(stub, reference, tokenizer):
    texts, expected = reference
    response = await stub.Embed(request(texts))
    assert closeness(floats(response), expected) >= COSINE
    assert [e.index for e in response.embeddings] == list(range(len(texts)))
    tokens = [len(tokenizer.encode("", text, Truncate.END)) for text in texts]
    assert [e.tokens for e in response.embeddings] == tokens
    assert response.usage.prompt_tokens == sum(tokens)
    assert (response.model, response.dimensions, response.output_type) == (MODEL, 384, pb.OUTPUT_TYPE_FLOAT)


async def test_token_ids_give_the_vectors_of_their_text(stub, reference, tokenizer):
    texts, expected = reference
    inputs = [pb.Input(tokens=pb.TokenIds(ids=tokenizer.encode("", text, Truncate.END))) for text in texts]
    assert closeness(floats(await stub.Embed(pb.EmbedRequest(inputs=inputs))), expected) >= COSINE


async def test_raw_encoder_equals_the_original(triton, reference, tokenizer):
    texts, expected = reference

    async def encode(text):
        ids = np.array([tokenizer.encode("", text, Truncate.END)], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return (await triton.infer("all_minilm_l6_v2", inputs, ["sentence_embedding"]))["sentence_embedding"][0]

    assert closeness(np.array(await asyncio.gather(*map(encode, texts))), expected) >= COSINE


async def test_text_ensemble_equals_the_original(triton, reference):
    texts, expected = reference

    async def encode(batch):
        inputs = {"text": np.array([[text.encode()] for text in batch], dtype=np.object_)}
        return (await triton.infer("all_minilm_l6_v2_text", inputs, ["sentence_embedding"]))["sentence_embedding"]

    parts = await asyncio.gather(*(encode(texts[i : i + 32]) for i in range(0, len(texts), 32)))
    assert closeness(np.concatenate(parts), expected) >= COSINE


async def test_number_formats_follow_from_the_floats(stub, reference):
    texts = reference[0][:20]

    async def embed(output_type, dtype):
        response = await stub.Embed(request(texts, output_type=output_type))
        assert response.output_type == output_type
        return np.array([np.frombuffer(e.data, dtype) for e in response.embeddings])

    exact = await embed(pb.OUTPUT_TYPE_FLOAT, "<f4")
    int8 = await embed(pb.OUTPUT_TYPE_INT8, np.int8)
    uint8 = await embed(pb.OUTPUT_TYPE_UINT8, np.uint8)
    ubinary = await embed(pb.OUTPUT_TYPE_UBINARY, np.uint8)
    binary = await embed(pb.OUTPUT_TYPE_BINARY, np.int8)
    assert np.abs(int8 / 127 - exact).max() <= 0.51 / 127
    assert np.abs((uint8.astype(float) - 128) / 127 - exact).max() <= 0.51 / 127
    assert np.array_equal(np.unpackbits(ubinary, axis=1), exact > 0)
    assert np.array_equal(binary.astype(int) + 128, ubinary)


async def test_a_large_request_fills_batches(service, stub):
    before = [await service.metric(f"flotilla_batch_items_{part}") for part in ("sum", "count")]
    response = await stub.Embed(request(f"text number {i % 10}" for i in range(2048)))
    after = [await service.metric(f"flotilla_batch_items_{part}") for part in ("sum", "count")]
    items, batches = np.subtract(after, before)
    assert len(response.embeddings) == items == 2048
    assert items / batches >= 15


async def test_single_requests_at_the_same_time_share_batches(service, stub):
    before = [await service.metric(f"flotilla_batch_items_{part}") for part in ("sum", "count")]
    responses = await asyncio.gather(*(stub.Embed(request([f"text number {i % 10}"])) for i in range(500)))
    after = [await service.metric(f"flotilla_batch_items_{part}") for part in ("sum", "count")]
    items, batches = np.subtract(after, before)
    assert len(responses) == items == 500
    assert items / batches >= 4


async def test_rank_orders_by_closeness(stub):
    passages = ["The stock market fell today.", "A kitten sleeps on the sofa.", "Dogs are loyal animals."]
    ranked = await stub.Rank(pb.RankRequest(query="a cat taking a nap", passages=passages))
    assert ranked.rankings[0].index == 1
    scores = [r.score for r in ranked.rankings]
    assert scores == sorted(scores, reverse=True)
    best = await stub.Rank(pb.RankRequest(query="a cat taking a nap", passages=passages, top_n=1))
    assert [r.index for r in best.rankings] == [1]
    assert best.usage == ranked.usage


async def test_list_models_tells_what_raw_clients_need(stub):
    (model,) = [m for m in (await stub.ListModels(pb.ListModelsRequest())).models if m.id == MODEL]
    assert (model.dimensions, model.max_tokens, model.profile) == (384, 256, "cpu-fp32")
    assert (model.triton_model, model.triton_text_model) == ("all_minilm_l6_v2", "all_minilm_l6_v2_text")
