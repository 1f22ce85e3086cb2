"""Photographs, pages and HTTP requests with them, the same in every run: what users send to a vision service."""

import base64
import json
from collections.abc import Mapping, Sequence

from PIL import Image, ImageOps

from tools.benchmark.corpus import mixed_texts
from tools.benchmark.generator import Post
from tools.export.pages import encoded, page
from tools.export.photographs import jpeg, photographs

SIZES = ((640, 480), (800, 600), (1024, 768), (1280, 960), (1600, 1200), (2048, 1536))
BOUNDARY = "flotilla-benchmark"
BICUBIC = Image.Resampling.BICUBIC
LINES, LINE_CHARACTERS = 30, 62


def photograph_files() -> list[bytes]:
    """Return each photograph in every size as JPEG, the sizes in turn."""
    return [jpeg(ImageOps.fit(image, size, BICUBIC)) for image in photographs().values() for size in SIZES]


def page_files(count: int) -> list[bytes]:
    """Return `count` different pages of 30 printed lines as JPEG, about 800 x 1,100 pixels."""
    texts = [" ".join(mixed_texts(60, seed)) for seed in range(count)]
    return [encoded(page(_lines(text), size=18), "JPEG") for text in texts]


def multipart(path: str, file: bytes, fields: Mapping[str, str] | None = None) -> Post:
    """Return an upload as `curl -F` sends it."""
    parts = [_part(f'name="{name}"', value.encode()) for name, value in (fields or {}).items()]
    parts.append(_part('name="file"; filename="picture"', file))
    return Post(path, b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}")


def in_json(path: str, file: bytes) -> Post:
    """Return a picture as NIM's clients send it: base64 in JSON."""
    url = f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"
    return Post(path, json.dumps({"input": [{"type": "image_url", "url": url}]}).encode())


def mixed_posts(files: Sequence[bytes]) -> list[Post]:
    """Return requests of every route and way with JPEG files, and some that are refused."""
    posts: list[Post] = []
    for number, file in enumerate(files):
        posts += [
            multipart("/v1/classify", file),
            in_json("/v1/classify", file),
            Post("/v1/detect", file, "image/jpeg"),
            multipart("/v1/faces" if number % 2 else "/v1/detect", file, {"annotate": "true"}),
            Post("/v1/classify", file[: len(file) // 2], "image/jpeg", status=400),
        ]
        if number % 4 == 0:
            short = page(_lines(mixed_texts(8, number)[0])[:4], size=20)
            posts.append(Post("/v1/ocr", encoded(short, "PNG"), "image/png"))
    return posts


def _lines(text: str) -> Sequence[str]:
    """Return a text in lines, broken between words."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= LINE_CHARACTERS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:LINES]


def _part(disposition: str, content: bytes) -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
