"""Token ids as a text that vLLM reads as exactly these ids, because Triton's vLLM backend takes prompts as text only.

The engine gets a tokenizer of our making: the model's own vocabulary and decoder, but a text is split at a separator,
and what stands between is one token, spelled as the vocabulary has it. So the chat template and the tokeniser stay in
the service, every prompt arrives as it was planned, and no caller's text ever becomes a special token. Grammars need
the vocabulary's spelling and its decoder, which are the model's own.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.common.errors import Kind, ServiceError
from services.common.server import StartupError

_PRIVATE_USE = range(0xE000, 0xF900)


class Spelling:
    """How the tokens of one model are spelled."""

    def __init__(self, path: Path) -> None:
        """`path` is the model's tokenizer.json. Raises StartupError where it has no vocabulary of that kind."""
        self._document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = self._document["model"].get("vocab")
        if not isinstance(vocabulary, dict):
            raise StartupError(f"{path}: a vocabulary of type {self._document['model'].get('type')} is not supported")
        added = {token["content"]: token["id"] for token in self._document.get("added_tokens", ())}
        self._ids: dict[str, int] = vocabulary | added
        self._words = {number: word for word, number in self._ids.items()}
        used = set().union(*self._ids)
        self.separator = next(chr(code) for code in _PRIVATE_USE if chr(code) not in used)
        """A character of no token."""

    def spell(self, ids: Sequence[int]) -> str:
        """Return the text of a prompt. Raises INVALID_ARGUMENT for an id that the tokenizer has no token for."""
        try:
            return self.separator.join([self._words[number] for number in ids])
        except KeyError as error:
            raise ServiceError(
                Kind.INVALID_ARGUMENT, f"tokens.ids: {error} has no token in this vocabulary", field="tokens.ids"
            ) from None

    def files(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return tokenizer.json and tokenizer_config.json for the engine, by name; `config` is the config.json."""
        tokenizer = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"String": self.separator},
                "behavior": "Removed",
                "invert": False,
            },
            "post_processor": None,
            "decoder": self._document["decoder"],
            "model": {"type": "WordLevel", "vocab": self._ids, "unk_token": self.separator},
        }
        named = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self._words[_first(config["eos_token_id"])]}
        return {
            "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False),
            "tokenizer_config.json": json.dumps(named, ensure_ascii=False),
        }


def _first(ids: int | Sequence[int]) -> int:
    return ids if isinstance(ids, int) else ids[0]
