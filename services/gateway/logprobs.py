"""Log-probabilities in OpenAI's two shapes: one object for each token (chat), or four lists (completions)."""

import codecs
from collections.abc import Iterable
from typing import Any

from flotilla.llm.v1 import llm_pb2 as pb

LEAST = -9999.0  # stands for minus infinity, which JSON does not have


def token_text(raw: bytes, prefix: str = "") -> str:
    r"""Return the text of a token; what is no whole characters is written as `\xNN` after `prefix`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in raw)


def of_chat(positions: Iterable[pb.PositionLogprobs]) -> list[dict[str, Any]]:
    """Return the elements of `logprobs.content`."""
    return [
        {**_token(position.token), "top_logprobs": [_token(token) for token in position.top]} for position in positions
    ]


def _token(token: pb.TokenLogprob) -> dict[str, Any]:
    return {"token": token_text(token.text), "logprob": max(token.logprob, LEAST), "bytes": list(token.text)}


class CompletionLogprobs:
    """Writes the log-probabilities of one answer, piece by piece."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def of(self, positions: Iterable[pb.PositionLogprobs]) -> dict[str, list[Any]]:
        """Return `logprobs` of the next tokens. The first token of a prompt has none."""
        rows = [self._row(position) for position in positions]
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {name: [row[i] for row in rows] for i, name in enumerate(names)}

    def _row(self, position: pb.PositionLogprobs) -> tuple[str, float | None, dict[str, float] | None, int]:
        offset, token = self._offset, position.token
        self._offset += len(self._decoder.decode(token.text))
        text = token_text(token.text, "bytes:")
        if not token.HasField("logprob"):
            return text, None, None, offset
        top: dict[str, float] = {}
        for candidate in (*position.top, token):  # best first, and the token itself where it is not one of them
            top.setdefault(token_text(candidate.text, "bytes:"), max(candidate.logprob, LEAST))
        return text, max(token.logprob, LEAST), top, offset
