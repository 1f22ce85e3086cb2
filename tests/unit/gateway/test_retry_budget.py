from services.gateway.retry_budget import BURST, RetryBudget


def test_starts_with_a_burst_then_follows_the_calls() -> None:
    budget = RetryBudget(0.1)
    assert [budget.take() for _ in range(int(BURST) + 1)] == [True] * int(BURST) + [False]
    for _ in range(11):
        budget.called()
    assert budget.take()
    assert not budget.take()


def test_never_holds_more_than_a_burst() -> None:
    budget = RetryBudget(0.5)
    for _ in range(1000):
        budget.called()
    assert sum(budget.take() for _ in range(1000)) == BURST


def test_zero_turns_retries_off() -> None:
    budget = RetryBudget(0)
    budget.called()
    assert not budget.take()
