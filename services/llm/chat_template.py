"""A conversation to token ids through the model's chat template (Jinja, sandboxed).

What callers wrote must never become a special token. So where their text spells one, an unguessable word stands in for
it while the template is rendered. The text is then cut at the special tokens, which can only be the template's own, and
the pieces between, with the callers' words back in place, are tokenised as plain text.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.common.errors import ServiceError, invalid
from services.common.server import StartupError
from services.llm.conversation import Message
from services.llm.tokenizer import TextTokenizer
from services.llm.tool_text import described, without_tool_roles
from services.llm.tools import Tool

MOST_GROWTH, MOST_SECONDS = 4_000_000, 2.0


class ChatTemplate:
    """The chat template of one model."""

    def __init__(self, source: str, tokenizer: TextTokenizer, bos_token: str, eos_token: str) -> None:
        self.source = source
        self._tokenizer = tokenizer
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_refuse, bos_token=bos_token, eos_token=eos_token)
        try:
            self._template = environment.from_string(source)
            self._knows_tools = "tools" in meta.find_undeclared_variables(environment.parse(source))
        except TemplateSyntaxError as error:
            raise StartupError(f"the chat template is broken in line {error.lineno}: {error.message}") from None
        specials = sorted(tokenizer.special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials)) or r"(?!)")

    def encode(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[int]:
        """Return the token ids of a conversation, up to where the assistant's answer begins.

        Raises INVALID_ARGUMENT where the template refuses the messages.
        """
        if not self._knows_tools:
            messages = without_tool_roles(described(messages, tools))
        stand_ins = {text: f"S{secrets.token_hex(16)}S" for text in self._tokenizer.special_ids}
        hide = _Replacement(stand_ins)
        show = _Replacement({word: text for text, word in stand_ins.items()})
        fields: dict[str, Any] = {"messages": _mapped([m.as_mapping() for m in messages], hide)}
        if tools and self._knows_tools:
            fields["tools"] = _mapped([tool.as_mapping() for tool in tools], hide)
        size = sum(len(message.content) for message in messages)
        return self._tokens(self._render(fields, size + MOST_GROWTH), show)

    def _render(self, fields: dict[str, Any], most: int) -> str:
        parts, size, end = [], 0, time.monotonic() + MOST_SECONDS
        try:
            for part in self._template.generate(**fields, add_generation_prompt=True):
                parts.append(part)
                size += len(part)
                if size > most or time.monotonic() > end:
                    raise invalid("messages", "messages: the chat template makes too much of them")
        except ServiceError:
            raise
        except Exception as error:  # a template is a program: it can fail in every way
            raise invalid("messages", f"messages: the model's chat template refuses them: {error}") from None
        return "".join(parts)

    def _tokens(self, text: str, show: Callable[[str], str]) -> list[int]:
        ids: list[int] = []
        at = 0
        for special in self._special.finditer(text):
            ids += self._plain(show(text[at : special.start()]))
            ids.append(self._tokenizer.special_ids[special[0]])
            at = special.end()
        return ids + self._plain(show(text[at:]))

    def _plain(self, text: str) -> list[int]:
        return self._tokenizer.encode(text) if text else []


class _Replacement:
    """Replaces all of some words in a text."""

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words
        longest_first = sorted(words, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, text: str) -> str:
        return self._pattern.sub(lambda found: self._words[found[0]], text)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return the value with every text in it, keys too, changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    return value


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
