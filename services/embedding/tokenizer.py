"""Text to token ids. Knows the model's vocabulary, special tokens and length limit; no tensors, no batches."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from tokenizers import Tokenizer

from services.common.errors import invalid


class Truncate(Enum):
    """What happens to an input over the limit."""

    NONE = "NONE"
    START = "START"
    END = "END"


class TextTokenizer:
    """The tokenizer of one model."""

    def __init__(self, path: Path, max_tokens: int, vocabulary_size: int) -> None:
        """`path` is a Hugging Face tokenizer.json; `max_tokens` counts special tokens."""
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens, self.vocabulary_size = max_tokens, vocabulary_size
        self._prefix, self._suffix = self._special_tokens()

    def encode(self, field: str, text: str, truncate: Truncate) -> list[int]:
        """Return the ids of `text` with special tokens, at most `max_tokens`.

        Raises INVALID_ARGUMENT that names `field` when the text is longer and `truncate` is NONE.
        """
        # encode_batch, unlike encode, lets other threads run meanwhile
        (encoding,) = self._tokenizer.encode_batch([text], add_special_tokens=False)
        return self._fit(field, encoding.ids, truncate)

    def complete(self, field: str, ids: Sequence[int], truncate: Truncate) -> list[int]:
        """Return a caller's own `ids` with the special tokens it lacks, at most `max_tokens`.

        Raises INVALID_ARGUMENT that names `field` for an id outside the vocabulary or too many ids.
        """
        if max(ids) >= self.vocabulary_size:
            position = next(i for i, number in enumerate(ids) if number >= self.vocabulary_size)
            raise invalid(
                f"{field}[{position}]",
                f"{field}[{position}] is {ids[position]}; token ids of this model are 0 to {self.vocabulary_size - 1}",
            )
        body = list(ids)
        if body[: len(self._prefix)] == self._prefix:
            body = body[len(self._prefix) :]
        if self._suffix and body[-len(self._suffix) :] == self._suffix:
            body = body[: -len(self._suffix)]
        return self._fit(field, body, truncate)

    def _fit(self, field: str, body: list[int], truncate: Truncate) -> list[int]:
        room = self.max_tokens - len(self._prefix) - len(self._suffix)
        if len(body) > room:
            if truncate is Truncate.NONE:
                total = len(body) + len(self._prefix) + len(self._suffix)
                raise invalid(
                    field,
                    f"{field} has {total} tokens; the limit is {self.max_tokens}. Shorten it, or set truncate to END "
                    "or START",
                    code="context_length_exceeded",
                )
            body = body[:room] if truncate is Truncate.END else body[-room:]
        return [*self._prefix, *body, *self._suffix]

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """Return the ids the model puts before and after a text, found on a sample."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        full = self._tokenizer.encode("a", add_special_tokens=True).ids
        start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        return full[:start], full[start + len(bare) :]
