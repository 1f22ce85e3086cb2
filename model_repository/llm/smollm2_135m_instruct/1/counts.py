"""What the engine did and does, as the contract's statistics."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """All count from the start; what is running or waiting is the scheduler's to say."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generated_tokens: int = 0
    cancelled: int = 0
    steps: int = 0

    def statistics(self, running, waiting, cache_use):
        """Return the numbers in the order of the contract."""
        return [
            running,
            waiting,
            cache_use,
            self.prompt_tokens,
            self.cached_prompt_tokens,
            self.generated_tokens,
            self.cancelled,
            self.steps,
        ]
