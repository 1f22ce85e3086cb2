"""The retry budget: retries stay a small share of the calls, so that they cannot multiply an overload."""

BURST = 10.0


class RetryBudget:
    """A bucket that each call fills by `share` and each retry empties by one. It starts full, with `BURST` retries."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = BURST if share else 0.0

    def called(self) -> None:
        """Count a call."""
        self._tokens = min(self._tokens + self._share, BURST) if self._share else 0.0

    def take(self) -> bool:
        """Whether one retry is allowed now; it is spent."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
