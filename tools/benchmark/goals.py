"""What a benchmark is to reach."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached, and what was."""

    name: str
    wanted: float
    reached: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it was."""
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted
