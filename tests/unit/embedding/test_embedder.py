import threading

import numpy as np
import pytest

from services.common.errors import ServiceError, invalid
from services.embedding.costs import Costs
from services.embedding.embedder import INLINE_CHARACTERS, Text
from services.embedding.tokenizer import Truncate
from tests.unit.embedding.fakes import embedder


async def test_vectors_and_tokens_keep_the_order_of_the_texts():
    embed = embedder({"b": (0, 1, 0, 0), "aa": (1, 0, 0, 0)})
    found = await embed.embed([Text("inputs[0]", "b"), Text("inputs[1]", "aa")], Truncate.NONE, 3)
    assert np.array_equal(found.vectors, [[0, 1, 0, 0], [1, 0, 0, 0]])
    assert found.vectors.dtype == np.float32
    assert found.tokens == [1, 2]
    assert embed.batcher.submitted == [([[98], [97, 97]], [1, 2], 3)]


async def test_text_is_encoded_and_ids_are_completed_under_the_name_of_their_field():
    embed = embedder()
    found = await embed.embed([Text("a", "x"), Text("b", [7, 8])], Truncate.START, 0)
    assert embed.tokenizer.asked == [("a", "x", Truncate.START), ("b", [7, 8], Truncate.START)]
    assert found.tokens == [1, 4]


@pytest.mark.parametrize(("characters", "inline"), [(INLINE_CHARACTERS, True), (INLINE_CHARACTERS + 1, False)])
async def test_much_text_is_tokenised_in_a_thread(characters, inline):
    embed = embedder()
    await embed.embed([Text("a", "x" * (characters - 1)), Text("b", "y")], Truncate.END, 0)
    assert (embed.tokenizer.threads == {threading.current_thread()}) is inline
    assert len(embed.tokenizer.threads) == 1


async def test_a_refused_text_reaches_no_batch():
    embed = embedder()

    def refuse(field, *_):
        raise invalid(field, "too long")

    embed.tokenizer.encode = refuse
    with pytest.raises(ServiceError, match="too long"):
        await embed.embed([Text("inputs[0]", "x")], Truncate.NONE, 0)
    assert not embed.batcher.submitted


@pytest.mark.parametrize(
    ("values", "cost"),
    [
        (["x"], 2.25),
        (["x" * 40], 12),
        (["x" * 40, "x" * 8], 16),
        (["x" * 1_000_000], 256),
        ([[1] * 40], 42),
        ([[1] * 1000, "x" * 4], 259),
    ],
)
def test_cost_is_four_characters_a_token_cut_at_the_limit(values, cost):
    assert embedder().cost([Text("f", value) for value in values]) == cost


def test_what_a_character_costs_is_learnt_from_texts_that_were_not_cut():
    costs = Costs(256)
    for _ in range(300):
        costs.learn(100, 102)
        costs.learn(100_000, 256)
    assert costs.of_text(50) == pytest.approx(52, rel=0.01)
