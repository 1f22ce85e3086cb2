from tests.unit.model_repository.llm.code import code

prefixes = code("prefixes")
BLOCK = prefixes.BLOCK_TOKENS


def known(*sequences: list[int], blocks: int = 100) -> "prefixes.Prefixes":
    memory = prefixes.Prefixes(blocks)
    for ids in sequences:
        memory.remember(ids)
    return memory


def test_only_whole_blocks_count() -> None:
    ids = list(range(3 * BLOCK))
    memory = known(ids[: 2 * BLOCK + 5])
    assert memory.cached_tokens(ids) == 2 * BLOCK
    assert memory.cached_tokens(ids[: BLOCK - 1]) == 0


def test_the_last_token_is_always_computed() -> None:
    ids = list(range(2 * BLOCK))
    assert known(ids).cached_tokens(ids) == 2 * BLOCK - 1


def test_a_block_counts_only_after_the_same_tokens() -> None:
    ids = list(range(2 * BLOCK))
    other = [7, *ids[1:]]
    assert known(ids).cached_tokens(other) == 0


def test_the_least_recently_used_goes_first() -> None:
    first, second, third = ([number] * BLOCK for number in (1, 2, 3))
    memory = known(first, second, first, third, blocks=2)
    assert [memory.cached_tokens([*ids, 0]) for ids in (first, second, third)] == [BLOCK, 0, BLOCK]


def test_an_engine_built_anew_knows_nothing() -> None:
    ids = list(range(BLOCK + 1))
    memory = known(ids)
    memory.forget()
    assert memory.cached_tokens(ids) == 0


def test_blocks_are_counted_up() -> None:
    assert [prefixes.blocks_for(tokens) for tokens in (0, 1, BLOCK, BLOCK + 1)] == [0, 1, 1, 2]
