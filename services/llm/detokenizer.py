"""Token ids to text, one token at a time: never half a character, and in the end the text of all ids together."""

import codecs

from services.llm.tokenizer import TextTokenizer

_Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one answer as it grows. It keeps three bytes at most."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._text_bytes = tokenizer.text_bytes
        self._decoder = _Decoder("replace")

    def feed(self, number: int) -> str:
        """Return the characters that are complete with this token."""
        return self._decoder.decode(self._text_bytes(number))

    def end(self) -> str:
        """Return U+FFFD where the answer ends in half a character."""
        return self._decoder.decode(b"", final=True)
