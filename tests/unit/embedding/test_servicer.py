import numpy as np
import pytest
from flotilla.embedding.v1 import embedding_pb2 as pb

from services.common.errors import Kind, ServiceError
from services.embedding.servicer import EmbeddingServicer
from services.embedding.settings import EmbeddingSettings
from services.embedding.tokenizer import Truncate
from tests.bad_calls import BAD_EMBED, BAD_RANK
from tests.unit.embedding.fakes import OTHERWISE, FakeAdmission, FakeContext, embedder

OF_THE_TOKENIZER = ("id outside", "largest id", "too many tokens", "too many ids", "long passage")
SCORES = {
    "query: q": (1, 0, 0, 0),
    "passage: low": (0.25, 1, 0, 0),
    "passage: tie": (0.5, 1, 0, 0),
    "passage: high": (0.75, 1, 0, 0),
    "passage: tie too": (0.5, 0, 1, 0),
}
DTYPES = {
    pb.OUTPUT_TYPE_UNSPECIFIED: "<f4",
    pb.OUTPUT_TYPE_FLOAT: "<f4",
    pb.OUTPUT_TYPE_INT8: "i1",
    pb.OUTPUT_TYPE_UINT8: "u1",
}


class Service(EmbeddingServicer):
    """A servicer over fakes."""

    def __init__(self, vectors=None, models=("m",)):
        self.embedders = {model: embedder(vectors, model) for model in models}
        self.admission = FakeAdmission()
        super().__init__(self.embedders, self.admission, EmbeddingSettings())

    async def embed(self, context=FakeContext(), **fields):  # noqa: B008
        return await self.Embed(pb.EmbedRequest(**fields), context)

    async def rank(self, **fields):
        return await self.Rank(pb.RankRequest(**fields), FakeContext())

    @property
    def asked(self):
        return self.embedders["m"].tokenizer.asked


def texts(*values):
    return [pb.Input(text=value) for value in values]


@pytest.mark.parametrize("case", [case for case in {**BAD_EMBED, **BAD_RANK} if not case.startswith(OF_THE_TOKENIZER)])
async def test_every_refusal_names_its_field_and_happens_before_admission(case):
    service = Service()
    request, field = {**BAD_EMBED, **BAD_RANK}[case]
    method = service.Embed if case in BAD_EMBED else service.Rank
    with pytest.raises(ServiceError) as caught:
        await method(request, FakeContext())
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, field)
    assert caught.value.message.startswith(field)
    assert not service.admission.admitted


@pytest.mark.parametrize("method", ["embed", "rank"])
@pytest.mark.parametrize("models", [("m",), ("m", "n")])
async def test_an_unknown_model_is_not_found(method, models):
    with pytest.raises(ServiceError, match="loaded: m") as caught:
        await getattr(Service(models=models), method)(model="x")
    assert (caught.value.kind, caught.value.field, caught.value.code) == (Kind.NOT_FOUND, "model", "model_not_found")


async def test_no_model_means_the_only_one():
    assert (await Service().embed(inputs=texts("a"))).model == "m"
    with pytest.raises(ServiceError) as caught:
        await Service(models=("m", "n")).embed(inputs=texts("a"))
    assert caught.value.kind is Kind.NOT_FOUND


async def test_vectors_have_index_tokens_and_usage():
    response = await Service({"b": (0, 0, 1, 0)}).embed(inputs=texts("aaa", "b"))
    assert [(row.index, row.tokens) for row in response.embeddings] == [(0, 3), (1, 1)]
    assert response.usage.prompt_tokens == 4
    assert (response.dimensions, response.output_type) == (4, pb.OUTPUT_TYPE_FLOAT)
    assert np.array_equal(np.frombuffer(response.embeddings[0].data, "<f4"), np.array(OTHERWISE, "f4"))
    assert np.array_equal(np.frombuffer(response.embeddings[1].data, "<f4"), [0, 0, 1, 0])


async def test_fewer_dimensions_are_normalised_again():
    response = await Service({"a": (0.3, 0.4, 0.5, 0.7)}).embed(inputs=texts("a"), dimensions=2)
    assert response.dimensions == 2
    assert np.frombuffer(response.embeddings[0].data, "<f4") == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("output_type", DTYPES)
async def test_output_types(output_type):
    response = await Service().embed(inputs=texts("a"), output_type=output_type)
    assert response.output_type == (output_type or pb.OUTPUT_TYPE_FLOAT)
    assert len(np.frombuffer(response.embeddings[0].data, DTYPES[output_type])) == 4


@pytest.mark.parametrize(("output_type", "byte"), [(pb.OUTPUT_TYPE_UBINARY, 0b10100000), (pb.OUTPUT_TYPE_BINARY, 32)])
async def test_binary_output_types_have_a_bit_a_dimension(output_type, byte):
    response = await Service().embed(inputs=texts("a"), output_type=output_type)
    assert response.embeddings[0].data == bytes([byte])


@pytest.mark.parametrize(
    ("input_type", "sent"),
    [
        (pb.INPUT_TYPE_UNSPECIFIED, "a"),
        (pb.INPUT_TYPE_QUERY, "query: a"),
        (pb.INPUT_TYPE_PASSAGE, "passage: a"),
    ],
)
async def test_the_input_type_sets_the_prefix_of_text_but_not_of_token_ids(input_type, sent):
    service = Service()
    await service.embed(inputs=[*texts("a"), pb.Input(tokens=pb.TokenIds(ids=[7]))], input_type=input_type)
    assert service.asked == [("inputs[0]", sent, Truncate.NONE), ("inputs[1]", [7], Truncate.NONE)]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (pb.TRUNCATE_UNSPECIFIED, Truncate.NONE),
        (pb.TRUNCATE_NONE, Truncate.NONE),
        (pb.TRUNCATE_START, Truncate.START),
        (pb.TRUNCATE_END, Truncate.END),
    ],
)
async def test_truncate(asked, meant):
    service = Service()
    await service.embed(inputs=texts("a"), truncate=asked)
    await service.rank(query="q", passages=["p"], truncate=asked)
    assert {truncate for _, _, truncate in service.asked} == {meant}


async def test_cost_deadline_and_priority_reach_admission_and_batcher():
    service = Service()
    await service.embed(FakeContext(remaining=5.0, priority="7"), inputs=texts("a" * 40))
    assert service.admission.admitted == [(12, 5.0, 7)]
    ((_, _, priority),) = service.embedders["m"].batcher.submitted
    assert priority == 7


async def test_rank_is_by_score_and_ties_keep_their_order():
    service = Service(SCORES)
    response = await service.rank(query="q", passages=["low", "tie", "high", "tie too"])
    assert [row.index for row in response.rankings] == [2, 1, 3, 0]
    assert [row.score for row in response.rankings] == [0.75, 0.5, 0.5, 0.25]
    assert response.model == "m"
    assert response.usage.prompt_tokens == sum(map(len, SCORES))
    assert [field for field, _, _ in service.asked] == ["query", *(f"passages[{i}]" for i in range(4))]


@pytest.mark.parametrize(("top_n", "count"), [(0, 3), (2, 2), (9, 3)])
async def test_top_n_keeps_the_best(top_n, count):
    response = await Service(SCORES).rank(query="q", passages=["low", "tie", "high"], top_n=top_n)
    assert [row.index for row in response.rankings] == [2, 1, 0][:count]


async def test_models_are_listed_with_their_facts():
    (model, other) = (await Service(models=("m", "n")).ListModels(pb.ListModelsRequest(), FakeContext())).models
    assert (model.id, other.id) == ("m", "n")
    assert (model.dimensions, list(model.allowed_dimensions), model.max_tokens) == (4, [2, 4], 256)
    assert (model.triton_model, model.triton_text_model) == ("m", "m_text")
    assert (model.license, model.profile) == ("MIT", "cpu-fp32")
