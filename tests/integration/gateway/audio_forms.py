"""Requests for the audio routes."""

import json
from typing import Any

import httpx
from flotilla.asr.v1 import asr_pb2 as pb

from tests.integration.gateway.gateway import Gateway

TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
CLIP = b"RIFF it could be a file" * 100
BOUNDARY = b"boundary-7"


async def transcribe(
    gateway: Gateway, path: str = TRANSCRIPTIONS, *, audio: bytes = CLIP, **fields: Any
) -> httpx.Response:
    """Send a form with a file and fields; a field `name__` stands for `name[]`."""
    named = {name.replace("__", "[]"): value for name, value in fields.items()}
    return await gateway.http.post(path, files={"file": ("clip.wav", audio)}, data=named)


def part(name: str, value: bytes, *, upload: bool = False) -> bytes:
    """A part of a form."""
    filename = '; filename="a.bin"' if upload else ""
    head = f'--{BOUNDARY.decode()}\r\ncontent-disposition: form-data; name="{name}"{filename}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes, ended: bool = True) -> bytes:
    """A form."""
    return b"".join(parts) + (b"--" + BOUNDARY + b"--\r\n" if ended else b"")


def raw_request(body: bytes, path: str = TRANSCRIPTIONS, length: int | None = None) -> bytes:
    """The head of a request and so much of its body."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
        f"content-length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


async def send(gateway: Gateway, body: bytes) -> httpx.Response:
    """Send a form as it is."""
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    return await gateway.http.post(TRANSCRIPTIONS, content=body, headers=headers)


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def config(**fields: Any) -> pb.TranscriptionConfig:
    """What the service gets for a request that asks for nothing, but for these fields."""
    return pb.TranscriptionConfig(**{"task": pb.TASK_TRANSCRIBE, **fields})
