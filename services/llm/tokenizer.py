"""Text to token ids and token ids to bytes. Knows the model's vocabulary; no templates, no tensors.

Special tokens are parsed nowhere: a caller's text that spells one stays text. The chat template puts them in by id.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.common.errors import invalid
from services.common.server import StartupError


class TextTokenizer:
    """The tokenizer of one model."""

    def __init__(self, path: Path, vocabulary_size: int) -> None:
        """`path` is a Hugging Face tokenizer.json."""
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self.vocabulary_size = vocabulary_size
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = {token.content: number for number, token in added.items() if token.special}
        """Ids of the special tokens by their text."""
        to_bytes = _reader(json.loads(path.read_text(encoding="utf-8")).get("decoder") or {})
        verbatim = {number: token.content.encode() for number, token in added.items()}
        self._bytes = [
            verbatim.get(number) or to_bytes(self._tokenizer.id_to_token(number) or "")
            for number in range(vocabulary_size)
        ]
        self._skipped = frozenset(self.special_ids.values())

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without any special token. Lets other threads run meanwhile."""
        (encoding,) = self._tokenizer.encode_batch([text], add_special_tokens=False)
        return list(encoding.ids)

    def token_bytes(self, number: int) -> bytes:
        """Return the bytes of one token, half a character maybe; a special token's are its name."""
        return self._bytes[number]

    def text_bytes(self, number: int) -> bytes:
        """Return what one token adds to a text: its bytes, nothing for a special token."""
        return b"" if number in self._skipped else self._bytes[number]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids` without special tokens; what is no UTF-8 becomes U+FFFD."""
        return b"".join(map(self.text_bytes, ids)).decode(errors="replace")

    def check_ids(self, field: str, ids: Sequence[int]) -> None:
        """Raise INVALID_ARGUMENT that names the first id outside the vocabulary."""
        if ids and max(ids) >= self.vocabulary_size:
            position = next(i for i, number in enumerate(ids) if number >= self.vocabulary_size)
            raise invalid(
                f"{field}[{position}]",
                f"{field}[{position}] is {ids[position]}; token ids of this model are 0 to {self.vocabulary_size - 1}",
            )


class _ByteLevel:
    """Tokens of byte-level BPE: every byte is written as a printable character (GPT-2's table)."""

    def __init__(self) -> None:
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in plain]
        self._bytes = {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}

    def __call__(self, token: str) -> bytes:
        if any(character not in self._bytes for character in token):
            return token.encode()
        return bytes(self._bytes[character] for character in token)


def _byte_fallback(token: str) -> bytes:
    """Return the bytes of a SentencePiece token: a raised block is a space, <0x0A> is a byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()


def _reader(decoder: dict[str, Any]) -> Callable[[str], bytes]:
    types = {part.get("type") for part in decoder.get("decoders", [decoder])}
    if "ByteLevel" in types:
        return _ByteLevel()
    if "ByteFallback" in types:
        return _byte_fallback
    raise StartupError(f"the tokenizer has a decoder that is not supported: {sorted(map(str, types))}")
