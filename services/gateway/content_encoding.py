"""Bodies in gzip and deflate: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1."""

import asyncio
import zlib

from starlette.exceptions import HTTPException

from services.common.errors import invalid

IN_A_THREAD_FROM = 64 * 1024  # bytes
_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_FASTEST = 1


async def decoded(body: bytes, coding: str, limit: int) -> bytes:
    """Return what a body of this content-encoding holds, at most `limit` bytes.

    Raises HTTPException 413 and 415, INVALID_ARGUMENT for what is not of that coding.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in _WINDOW_BITS:
        raise HTTPException(415, "the content-encoding must be gzip or deflate")
    if len(body) < IN_A_THREAD_FROM:
        return _decoded(body, coding, limit)
    return await asyncio.to_thread(_decoded, body, coding, limit)


def wanted(accepted: str) -> str | None:
    """Return the coding that a client asks for: one, by name. A list says what it can read, not what it wants."""
    coding = accepted.strip().lower()
    return coding if coding in _WINDOW_BITS else None


async def encoded(body: bytes, coding: str) -> bytes:
    """Return a body in gzip or deflate."""
    if len(body) < IN_A_THREAD_FROM:
        return _encoded(body, coding)
    return await asyncio.to_thread(_encoded, body, coding)


def _decoded(body: bytes, coding: str, limit: int) -> bytes:
    stream = zlib.decompressobj(_WINDOW_BITS[coding])
    try:
        # One byte over the limit tells apart what fills it.
        content = stream.decompress(body, limit + 1)
    except zlib.error:
        raise invalid(None, f"the request body is not {coding}, as its content-encoding says") from None
    if len(content) > limit:
        raise HTTPException(413, f"the request body is over the limit of {limit} bytes when unpacked")
    if not stream.eof or stream.unused_data:
        raise invalid(None, f"the request body does not end where its {coding} does")
    return content


def _encoded(body: bytes, coding: str) -> bytes:
    stream = zlib.compressobj(_FASTEST, zlib.DEFLATED, _WINDOW_BITS[coding])
    return stream.compress(body) + stream.flush()
