"""`/tokenize`, `/detokenize` and `/tokenizer_info` as vLLM has them, for evaluation harnesses and token counts."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, PlainValidator, model_validator

from services.gateway.schemas.chat import MOST_MESSAGES, MOST_TOOLS, Message, Tool
from services.gateway.schemas.common import ModelId, RequestBody, Text, fault, token_ids


class TokenizeRequest(RequestBody):
    """A text, or a conversation, to turn into tokens."""

    model: ModelId | None = None
    """Id of the model. Default: the only language model."""
    prompt: Text | None = None
    """A text; either this or `messages`."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)] | None = None
    """A conversation, which goes through the chat template."""
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    """The tools of the conversation, which count too."""
    add_special_tokens: Literal[False] | None = None
    """Nothing is added to a text. A chat template brings its own special tokens."""
    add_generation_prompt: Literal[True] | None = None
    """The conversation is ready for the model's answer."""
    return_token_strs: bool | None = None
    """Also return the text of every token."""

    @model_validator(mode="after")
    def _has_one_input(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise fault("prompt", "or messages is required, and not both")
        if self.tools is not None and self.messages is None:
            raise fault("tools", "is only for requests with messages")
        return self


class TokenizeResponse(BaseModel):
    """The tokens."""

    count: int
    max_model_len: int
    """Longest prompt and answer together, in tokens."""
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeRequest(RequestBody):
    """Token ids to turn into text."""

    model: ModelId | None = None
    """Id of the model. Default: the only language model."""
    tokens: Annotated[
        list[int], PlainValidator(lambda value: token_ids("tokens", value), json_schema_input_type=list[int])
    ]
    """Ids of the model's vocabulary."""


class DetokenizeResponse(BaseModel):
    """The text."""

    prompt: str


class TokenizerInfo(BaseModel):
    """What clients need to know of the tokenizer."""

    model_max_length: int
    """Longest prompt and answer together, in tokens."""
    vocab_size: int
    chat_template: str
    """Jinja."""
    bos_token: None = None
    """Not told: nothing has to be put before a prompt."""
    eos_token: None = None
    """Not told: an answer ends without it."""
