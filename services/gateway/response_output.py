"""The output of a response as it grows, item by item, and the events that tell of it."""

import uuid
from collections.abc import Iterator
from typing import Any, Protocol

from flotilla.llm.v1 import llm_pb2 as pb

from services.gateway import logprobs

Event = tuple[str, dict[str, Any]]
"""Type and fields, the number of its place in the stream left out."""


class Item(Protocol):
    """One item of an output."""

    status: str

    def body(self) -> dict[str, Any]:
        """Return the item as it is now."""

    def begin(self) -> Iterator[Event]:
        """Tell that it is there."""

    def end(self, status: str) -> Iterator[Event]:
        """Tell that it is over."""


class TextItem:
    """A message of the model."""

    def __init__(self, index: int) -> None:
        self._id, self._index = f"msg_{uuid.uuid4().hex}", index
        self._where = {"item_id": self._id, "output_index": index, "content_index": 0}
        self._begun, self.status = False, "in_progress"
        self._text: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def begin(self) -> Iterator[Event]:
        """Tell that it is there, and its only part."""
        yield "response.output_item.added", {"output_index": self._index, "item": self.body()}
        self._begun = True
        yield "response.content_part.added", {**self._where, "part": self._part()}

    def grow(self, piece: pb.ChatResponse) -> Iterator[Event]:
        """Take the text of a piece."""
        likely = logprobs.of_chat(piece.logprobs)
        self._text.append(piece.text)
        self._logprobs += likely
        yield "response.output_text.delta", {**self._where, "delta": piece.text, "logprobs": likely}

    def end(self, status: str) -> Iterator[Event]:
        """Tell that it is over, with all of it."""
        self.status = status
        part = self._part()
        yield "response.output_text.done", {**self._where, "text": part["text"], "logprobs": part["logprobs"]}
        yield "response.content_part.done", {**self._where, "part": part}
        yield "response.output_item.done", {"output_index": self._index, "item": self.body()}

    def body(self) -> dict[str, Any]:
        """Return the item as it is now."""
        content = [self._part()] if self._begun else []
        return {"id": self._id, "type": "message", "role": "assistant", "status": self.status, "content": content}

    def _part(self) -> dict[str, Any]:
        text = "".join(self._text)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self._logprobs}


class CallItem:
    """A call of a function."""

    def __init__(self, index: int, call: pb.ToolCallDelta) -> None:
        self._id, self._index = f"fc_{uuid.uuid4().hex}", index
        self._where = {"item_id": self._id, "output_index": index}
        self._call_id, self._name, self.status = call.id, call.name, "in_progress"
        self._arguments: list[str] = []

    def begin(self) -> Iterator[Event]:
        """Tell that it is there."""
        yield "response.output_item.added", {"output_index": self._index, "item": self.body()}

    def grow(self, arguments: str) -> Iterator[Event]:
        """Take more of the arguments."""
        self._arguments.append(arguments)
        yield "response.function_call_arguments.delta", {**self._where, "delta": arguments}

    def end(self, status: str) -> Iterator[Event]:
        """Tell that it is over, with all of it."""
        self.status = status
        arguments = "".join(self._arguments)
        yield (
            "response.function_call_arguments.done",
            {**self._where, "name": self._name, "arguments": arguments},
        )
        yield "response.output_item.done", {"output_index": self._index, "item": self.body()}

    def body(self) -> dict[str, Any]:
        """Return the item as it is now."""
        return {
            "id": self._id,
            "type": "function_call",
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._arguments),
            "status": self.status,
        }


class Output:
    """All items of an answer, one growing at a time: its text, then its calls."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._text: TextItem | None = None
        self._calls: dict[int, CallItem] = {}

    def take(self, piece: pb.ChatResponse) -> Iterator[Event]:
        """Take a piece and tell what it adds."""
        if piece.text or piece.logprobs:
            yield from self._grow_text(piece)
        for delta in piece.tool_calls:
            yield from self._grow_call(delta)
        if piece.finish_reason:
            if not self._items:
                self._text = TextItem(0)
                yield from self._open(self._text)
            cut = piece.finish_reason == pb.FINISH_REASON_LENGTH
            yield from self._items[-1].end("incomplete" if cut else "completed")

    def body(self) -> list[dict[str, Any]]:
        """Return the items as they are now."""
        return [item.body() for item in self._items]

    def cut(self) -> None:
        """Mark what still grows as incomplete: nothing more comes."""
        for item in self._items:
            if item.status == "in_progress":
                item.status = "incomplete"

    def _grow_text(self, piece: pb.ChatResponse) -> Iterator[Event]:
        if self._text is None:
            self._text = TextItem(len(self._items))
            yield from self._open(self._text)
        yield from self._text.grow(piece)

    def _grow_call(self, delta: pb.ToolCallDelta) -> Iterator[Event]:
        call = self._calls.get(delta.index)
        if call is None:
            call = self._calls[delta.index] = CallItem(len(self._items), delta)
            yield from self._open(call)
        if delta.arguments:
            yield from call.grow(delta.arguments)

    def _open(self, item: Item) -> Iterator[Event]:
        if self._items:
            yield from self._items[-1].end("completed")
        self._items.append(item)
        yield from item.begin()
