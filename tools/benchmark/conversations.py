"""Conversations of exact lengths, each different from its first block on, so that no prefix cache knows it."""

import random
from dataclasses import dataclass
from itertools import count

from services.common.manifest import Model
from services.common.model_store import ModelStore
from services.llm.chat_template import ChatTemplate
from services.llm.conversation import Message
from services.llm.tokenizer import TextTokenizer
from tools.benchmark.corpus import WORDS

PASSAGE = (
    "The committee met on Monday to review the harbour budget and the lighthouse repairs for the coming year. "
    "The captain reported that the northern channel was open and that the signal lamps had been replaced. "
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A system message and a user's, and the token ids that the chat template makes of them."""

    system: str
    user: str
    ids: list[int]

    @property
    def messages(self) -> list[dict[str, str]]:
        """As OpenAI's API takes them."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


class Conversations:
    """Makes conversations for one model."""

    def __init__(self, model: Model, store: ModelStore) -> None:
        assert model.llm is not None  # noqa: S101  # the manifest checks it
        tokenizer = TextTokenizer(store.artifact(model.id, "tokenizer.json"), model.llm.vocabulary_size)
        source = store.artifact(model.id, "chat_template.jinja").read_text(encoding="utf-8")
        end = tokenizer.token_bytes(model.llm.eos_token_ids[0]).decode()
        self._template = ChatTemplate(source, tokenizer, "", end)
        self._words = [word for word in WORDS if len(tokenizer.encode(f" {word}")) == 1]
        self._numbers, self._random = count(), random.Random(7)  # noqa: S311  # reproducible, not secret

    def fresh(self, tokens: int) -> Conversation:
        """Return a conversation of so many tokens that there has not been."""
        system = self._number()
        return self._filled(system, "Tell", tokens)

    def sharing(self, tokens: int, shared: int, times: int) -> list[Conversation]:
        """Return conversations of so many tokens that have a system message of about `shared` tokens in common."""
        system = self._filled("", self._number(), shared).user
        return [self._filled(system, self._number(), tokens) for _ in range(times)]

    def repeating(self) -> Conversation:
        """Return a conversation whose answer should repeat a passage of it."""
        return self._of(self._number(), f"Repeat this text word by word, again and again: {PASSAGE}")

    def _number(self) -> str:
        return f"{next(self._numbers):06d}"

    def _filled(self, system: str, user: str, tokens: int) -> Conversation:
        """Return the conversation with words added to the user's message until it has so many tokens."""
        missing = tokens - len(self._of(system, user).ids)
        words = self._random.choices(self._words, k=max(0, missing))
        return self._of(system, " ".join([user, *words]))

    def _of(self, system: str, user: str) -> Conversation:
        return Conversation(system, user, self._template.encode([Message("system", system), Message("user", user)], ()))
