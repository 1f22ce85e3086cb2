"""Requests that are nearly right, or not at all, made from good ones at random, and sent byte by byte or in one."""

import asyncio
import itertools
import json
import random
from dataclasses import dataclass, field

from tests.bad_requests import connected
from tests.integration.gateway.audio_forms import BOUNDARY, form, part

FORM_NOISE = [
    b"--" + BOUNDARY + b"\r\n",
    b"--" + BOUNDARY + b"--\r\n",
    b"--" + BOUNDARY,
    b"\r\n\r\n",
    b'content-disposition: form-data; name="file"; filename="b.wav"\r\n',
    b'content-disposition: form-data; name="model"\r\n',
    b"content-disposition: form-data; name*=utf-8''%ff%fe\r\n",
    b"content-disposition: form-data\r\n",
    b"content-type: multipart/mixed; boundary=inner\r\n",
    b"content-type: image/svg+xml\r\n",
    b"content-transfer-encoding: base64\r\n",
    b"x" * 70_000,
    part("model", b"fake-whisper"),
    part("top_k", b"-1") * 140,
    part("file", b"again", upload=True),
]
FORM_TYPES = [
    b"multipart/form-data; boundary=" + BOUNDARY,
    b'multipart/form-data; boundary="' + BOUNDARY + b'"',
    b"multipart/form-data; charset=latin-7; boundary=" + BOUNDARY,
    b"multipart/form-data; boundary=other",
    b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=" + b"b" * 5000,
    b"multipart/form-data; boundary=\xff\xfe",
    b"multipart/form-data",
    b"multipart/mixed; boundary=" + BOUNDARY,
    b"image/jpeg",
    b"",
]
DEEP = 2000
JSON_NOISE = [
    b'"',
    b"{",
    b"]",
    b",",
    b"null",
    b"1e999",
    b"-0",
    b"9" * 5000,
    b"\\ud800",
    b"\\u0000",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"[" * DEEP,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'"stream":false,',
    b'"messages":[],',
    b'"n":7,',
    b"\n\n",
    b"data: [DONE]\n\n",
]
HEAD_NOISE = [
    b"content-length: 5\r\n",
    b"content-length: -1\r\n",
    b"content-length: 99999999999999999999999\r\n",
    b"transfer-encoding: gzip\r\n",
    b"transfer-encoding: chunked\r\n",
    b"content-encoding: br\r\n",
    b"content-type: application/json; charset=utf-99\r\n",
    b"x-flotilla-timeout-ms: soon\r\n",
    b"x-flotilla-timeout-ms: -5\r\n",
    b"traceparent: 00-zz-zz-01\r\n",
    b"x-request-id: " + b"\x80\xff" * 40 + b"\r\n",
    b"authorization: Bearer \x00\r\n",
    b"upgrade: websocket\r\nconnection: upgrade\r\n",
    b"accept: " + b"a/b," * 3000 + b"\r\n",
    b"x-many: y\r\n" * 300,
    b"x-long: " + b"y" * 100_000 + b"\r\n",
    b" folded: line\r\n",
    b"no colon\r\n",
    b": no name\r\n",
    b"\x00\r\n",
]


@dataclass
class Answer:
    """What came back: nothing where the connection was closed before."""

    status: int | None = None
    body: bytes = b""


@dataclass
class Fuzzed:
    """A request as it is sent."""

    path: str
    content_type: bytes
    body: bytes
    headers: bytes = b""
    in_chunks: bool = False
    more: int = 0
    """Bytes that are promised and do not come."""
    splits: list[int] = field(default_factory=list)
    leaves: bool = False
    """Whether the client goes before the answer is there."""

    @property
    def wire(self) -> bytes:
        """All bytes of it."""
        kind = b"content-type: " + self.content_type + b"\r\n" if self.content_type else b""
        size = f"content-length: {len(self.body) + self.more}\r\n".encode()
        body = self.body
        if self.in_chunks:
            size, body = b"transfer-encoding: chunked\r\n", _chunked(body, self.splits)
        start = f"POST {self.path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".encode()
        return start + kind + size + self.headers + b"\r\n" + body

    @property
    def is_whole(self) -> bool:
        """Whether an answer must come."""
        return not (self.leaves or self.more or self.headers)


def spoilt(chance: random.Random, body: bytes, noise: list[bytes]) -> bytes:
    """`body` with up to three of its parts cut, doubled, overwritten, or with noise between them."""
    for _ in range(chance.randint(0, 3)):
        start = chance.randint(0, len(body))
        end = min(len(body), start + chance.choice([0, 1, 2, 8, 64, 4096]))
        inserted = chance.choice([b"", body[start:end] * 2, chance.randbytes(end - start), chance.choice(noise)])
        body = body[:start] + inserted + body[end:]
    return body


def fuzzed(chance: random.Random, path: str, good: bytes, types: list[bytes], noise: list[bytes]) -> Fuzzed:
    """A request to `path`, made from a good body; the first of `types` is the right content type."""
    body = spoilt(chance, good, noise)
    return Fuzzed(
        path,
        types[0] if chance.random() < 0.8 else chance.choice(types),
        body,
        headers=b"".join(chance.sample(HEAD_NOISE, chance.randint(1, 3))) if chance.random() < 0.15 else b"",
        in_chunks=chance.random() < 0.3,
        more=chance.choice([1, 1000, 2**34]) if chance.random() < 0.05 else 0,
        splits=sorted(chance.randint(0, len(body)) for _ in range(chance.choice([0, 1, 5]))),
        leaves=chance.random() < 0.1,
    )


async def send(port: int, request: Fuzzed) -> Answer:
    """Send a request on a connection of its own and read what comes back until it is closed."""
    async with connected(port) as (reader, writer):
        wire = request.wire
        try:
            for start, end in zip([0, *request.splits], [*request.splits, len(wire)], strict=True):
                writer.write(wire[start:end])
                await writer.drain()
            if request.leaves:
                return Answer()
            if request.more:
                writer.write_eof()
            return _answer(await asyncio.wait_for(reader.read(-1), 60))
        except ConnectionError:  # refused before all of it was there
            return Answer()


def good_form(file: bytes, **fields: str) -> bytes:
    """A form with a file and fields."""
    return form(*(part(name, value.encode()) for name, value in fields.items()), part("file", file, upload=True))


def good_json(**body: object) -> bytes:
    """A body."""
    return json.dumps(body).encode()


def _chunked(body: bytes, splits: list[int]) -> bytes:
    bounds = [0, *splits, len(body)]
    parts = [body[start:end] for start, end in itertools.pairwise(bounds) if end > start]
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in parts) + b"0\r\n\r\n"


def _answer(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ", 2)[1]), body) if head else Answer()
