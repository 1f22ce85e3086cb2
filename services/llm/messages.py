"""flotilla.llm.v1 messages made of pieces."""

from flotilla.llm.v1 import llm_pb2 as pb

from services.llm.answer import Finish, Piece, Token
from services.llm.instruments import CallRecord
from services.llm.tokenizer import TextTokenizer

_FINISH = {
    None: pb.FINISH_REASON_UNSPECIFIED,
    Finish.STOP: pb.FINISH_REASON_STOP,
    Finish.LENGTH: pb.FINISH_REASON_LENGTH,
    Finish.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
}


class Messages:
    """Makes the messages of one model's answers."""

    def __init__(self, model_id: str, tokenizer: TextTokenizer) -> None:
        self._id, self._tokenizer = model_id, tokenizer

    def generated(self, piece: Piece, logprobs: bool) -> pb.GenerateResponse:
        """Return the message of a piece of text."""
        return pb.GenerateResponse(
            model=self._id,
            index=piece.index,
            text=piece.text,
            tokens=[token.id for token in piece.tokens],
            logprobs=map(self._position, piece.tokens) if logprobs else (),
            finish_reason=_FINISH[piece.finish],
        )

    def chatted(self, piece: Piece, logprobs: bool) -> pb.ChatResponse:
        """Return the message of a piece of a chat message."""
        return pb.ChatResponse(
            model=self._id,
            index=piece.index,
            text=piece.text,
            tool_calls=[
                pb.ToolCallDelta(index=call.index, id=call.id, name=call.name, arguments=call.arguments)
                for call in piece.calls
            ],
            tokens=[token.id for token in piece.tokens],
            logprobs=map(self._position, piece.tokens) if logprobs else (),
            finish_reason=_FINISH[piece.finish],
        )

    def usage(self, record: CallRecord) -> pb.Usage:
        """Return what a call has used."""
        return pb.Usage(
            prompt_tokens=record.prompt_tokens,
            completion_tokens=record.completion_tokens,
            cached_tokens=record.cached_tokens,
        )

    def _position(self, token: Token) -> pb.PositionLogprobs:
        return pb.PositionLogprobs(
            token=self._logprob(token.id, token.logprob), top=[self._logprob(*one) for one in token.top]
        )

    def _logprob(self, number: int, logprob: float | None) -> pb.TokenLogprob:
        return pb.TokenLogprob(id=number, text=self._tokenizer.token_bytes(number), logprob=logprob)
