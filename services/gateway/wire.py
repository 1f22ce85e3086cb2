"""One text field out of an encoded protobuf message, without decoding or copying the rest.

https://protobuf.dev/programming-guides/encoding/
"""

from services.common.errors import ServiceError, invalid

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


def text_field(message: bytes, number: int) -> str:
    """Return field `number`, a singular string, of an encoded message; empty where it is not set.

    Raises INVALID_ARGUMENT for bytes that are no message.
    """
    position, found = 0, b""
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _BYTES:
            size, position = _varint(message, position)
            if tag >> 3 == number:
                found = message[position : position + size]  # of several the last one counts
            position += size
        else:
            raise _malformed()
    if position > len(message):
        raise _malformed()
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise _malformed() from None


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return the number at `position` and the position after it."""
    value = 0
    for index in range(_LONGEST_VARINT):
        if position + index >= len(message):
            break
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _malformed()


def _malformed() -> ServiceError:
    return invalid(None, "the request is not a valid message")
