"""What the commands say, and the one kind of failure they may end in."""

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)


class Problem(Exception):  # noqa: N818 -- what a reader has, not what a program raised
    """A failure the reader can act on: one line that says what is wrong, one that says what to do next."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
