"""Bodies of POST /v1/embeddings that the gateway refuses whatever is behind it, and requests on a raw connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

JSON = {"content-type": "application/json"}

# What is changed in a good body, the status, and the parameter that the error names.
BAD_VALUES: list[tuple[dict[str, Any], int, str]] = [
    ({"input": []}, 400, "input"),
    ({"input": ""}, 400, "input[0]"),
    ({"input": ["a", ""]}, 400, "input[1]"),
    ({"input": ["a"] * 2049}, 400, "input"),
    ({"input": [[1]] * 2049}, 400, "input"),
    ({"input": [1] * 200_000}, 400, "input"),
    ({"input": {"text": "a"}}, 400, "input"),
    ({"input": 1}, 400, "input"),
    ({"input": None}, 400, "input"),
    ({"input": ["a", 1]}, 400, "input[1]"),
    ({"input": [1, "a"]}, 400, "input[1]"),
    ({"input": [[1], "a"]}, 400, "input[1]"),
    ({"input": [[1, 2.5]]}, 400, "input[0][1]"),
    ({"input": [-1]}, 400, "input[0]"),
    ({"input": [2**32]}, 400, "input[0]"),
    ({"input": [True]}, 400, "input[0]"),
    ({"model": ""}, 400, "model"),
    ({"model": 7}, 400, "model"),
    ({"model": "nope"}, 404, "model"),
    ({"dimensions": 0}, 400, "dimensions"),
    ({"dimensions": 2**40}, 400, "dimensions"),
    ({"dimensions": "4"}, 400, "dimensions"),
    ({"dimensions": 1.5}, 400, "dimensions"),
    ({"encoding_format": "hex"}, 400, "encoding_format"),
    ({"truncate": "none"}, 400, "truncate"),
    ({"input_type": "document"}, 400, "input_type"),
    ({"modality": "image"}, 400, "modality"),
    ({"temperature": 1}, 400, "temperature"),
]

# A body, the parameter that the error names, and words of its message. The status is 400.
BAD_BODIES: list[tuple[bytes, str | None, str]] = [
    (b"nope", None, "not valid JSON"),
    (b"", None, "must be a JSON object"),
    (b"[]", None, "must be a JSON object"),
    (b"null", None, "must be a JSON object"),
    (b"\xff{", None, "not UTF-8"),
    (b"[" * 100_000, None, "nested too deep"),
    (b'{"model": "m"}', "input", "required"),
    (b'{"input": "a"}', "model", "required"),
    (b'{"model": "m", "input": NaN}', "input", "must be a string"),
    (b'{"model": "m", "input": [Infinity]}', "input[0]", "token id"),
    (b'{"model": "m", "input": "a", "dimensions": NaN}', "dimensions", "integer"),
    (b'{"model": "m", "input": ["a", "\\ud800"]}', "input[1]", "surrogate"),
    (b'{"model": "\\udfff", "input": "a"}', "model", "surrogate"),
    (b'{"model": "m", "input": [' + b"9" * 5000 + b"]}", None, "number too long"),
]


def assert_refused(response: httpx.Response, status: int, param: str | None, words: str = "") -> None:
    """Hold a refusal against what it must say."""
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert (words or param or "") in error["message"]
    assert len(error["message"]) < 150
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


def head(length: int | None) -> bytes:
    """The head of a request whose body has `length` bytes, or comes in chunks."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{size}\r\n\r\n".encode()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def status_line(reader: asyncio.StreamReader) -> bytes:
    """The first line of the answer."""
    return await asyncio.wait_for(reader.readline(), 10)
