"""One answer as it grows: token ids to text, stop strings, tool calls, and which tokens belong to the text sent.

Pieces carry whole characters. Tokens go out with the text they made, so that none of a stop string is ever sent.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from services.llm.detokenizer import Detokenizer
from services.llm.stop_strings import StopStrings
from services.llm.tokenizer import TextTokenizer
from services.llm.tool_calls import CallPiece, CallReader


class Finish(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Token:
    """A token, its log-probability where asked for, and the most likely in its place, best first."""

    id: int
    logprob: float | None = None
    top: Sequence[tuple[int, float]] = ()


@dataclass(slots=True)
class Piece:
    """New text, calls and tokens of one answer; `finish` in its last piece."""

    index: int
    text: str = ""
    calls: list[CallPiece] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    finish: Finish | None = None

    def add(self, other: "Piece") -> None:
        """Append a later piece of the same answer."""
        self.text += other.text
        self.calls += other.calls
        self.tokens += other.tokens
        self.finish = other.finish


class Answer:
    """The state of one answer."""

    def __init__(self, index: int, tokenizer: TextTokenizer, stop: Sequence[str], with_calls: bool) -> None:
        self.index = index
        self.generated = 0
        """Tokens the engine made."""
        self.sent = 0
        """Tokens that went out."""
        self.stopped = False
        """Whether a stop string was met."""
        self.text: list[str] = []
        """Everything the model wrote, calls and all, for the check of the finished answer."""
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(stop)
        self._calls = CallReader() if with_calls else None
        self._pending: deque[tuple[Token, int, int]] = deque()  # first and last character each made
        self._decoded = 0
        self._certain = 0

    @property
    def calls(self) -> int:
        """Tool calls that were begun."""
        return self._calls.calls if self._calls else 0

    def feed(self, tokens: Sequence[Token]) -> Piece:
        """Return what is certain with these tokens. After a stop string nothing more counts."""
        piece = Piece(self.index)
        self.generated += len(tokens)
        for token in tokens:
            text = self._detokenizer.feed(token.id)
            self._pending.append((token, self._decoded, self._decoded + len(text)))
            self._decoded += len(text)
            if text:
                self._take(text, piece)
            if self.stopped:
                break
        self._release(piece)
        return piece

    def end(self, limited: bool) -> Piece:
        """Return the last piece; `limited`: the engine ended at a limit of tokens."""
        piece = Piece(self.index)
        if not self.stopped:
            rest = self._detokenizer.end()
            self._decoded += len(rest)
            self._take(rest, piece)
        if not self.stopped and self._calls:
            self._say(self._calls.end(), piece)
        if not self.stopped:
            piece.text += self._stops.end()
            self._certain = self._decoded
        self._release(piece)
        done = Finish.TOOL_CALLS if self.calls else Finish.STOP
        piece.finish = Finish.LENGTH if limited and not self.stopped else done
        return piece

    def _take(self, text: str, piece: Piece) -> None:
        self.text.append(text)
        if self._calls is None:
            self._say(text, piece)
            return
        plain, calls = self._calls.feed(text)
        self._say(plain, piece)
        if self.stopped:
            self._calls = None  # what would follow the stop string
        elif self._calls.in_calls:
            piece.text += self._stops.end()  # a stop string is for the text, not for calls
            piece.calls += calls
            self._certain = self._decoded

    def _say(self, text: str, piece: Piece) -> None:
        certain, self.stopped = self._stops.feed(text)
        self._certain += len(certain)
        piece.text += certain

    def _release(self, piece: Piece) -> None:
        """Move the tokens whose text is certain into the piece; after a stop, those that made any of it."""
        pending, certain = self._pending, self._certain
        while pending:
            _, first, last = pending[0]
            if not (first < certain if self.stopped else last <= certain):
                break
            piece.tokens.append(pending.popleft()[0])
        self.sent += len(piece.tokens)
