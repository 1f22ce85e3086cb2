"""Requests of the vision routes in every way they come, and those that are refused."""

import base64
import json
from typing import Any

from flotilla.vision.v1 import vision_pb2 as pb
from PIL import Image
from skimage import data

from tests.unit.vision.pictures import encoded, png_header
from tools.export.pages import page

LINES = (
    "Flotilla reads what is written here",
    "Total: 1,234.56 EUR (VAT 19 %)",
    "2026-11-22 at 08:30 in room B-207",
    "contact: crew@example.org",
)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
ROUTES = {
    "/v1/classify": "efficientnet-lite0",
    "/v1/detect": "ssd-mobilenet-v2",
    "/v1/page-elements": "ssd-mobilenet-v2",
    "/v1/faces": "centerface",
    "/v1/ocr": "pp-ocrv6",
}
NAN = float("nan")
COFFEE = encoded(Image.fromarray(data.coffee()), "JPEG", quality=92)
PAGE = encoded(page(LINES, size=22))
SMALL = encoded(Image.new("RGB", (40, 30), (90, 120, 200)))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
BOMB = png_header(50_000, 50_000)


def data_url(file: bytes, kind: str = "jpeg") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def as_form(file: bytes, **fields: Any) -> dict[str, Any]:
    return {"files": {"file": ("picture.jpg", file, "image/jpeg")}, "data": fields}


def as_body(file: bytes, **fields: Any) -> dict[str, Any]:
    return {"content": file, "headers": {"content-type": "image/jpeg"}, "params": fields}


def as_json(*files: bytes, **fields: Any) -> dict[str, Any]:
    body = {"input": [{"type": "image_url", "url": data_url(file)} for file in files], **fields}
    return {"content": json.dumps(body), "headers": {"content-type": "application/json"}}


def as_text(file: bytes) -> dict[str, Any]:
    """One image without a list, as plain base64."""
    return {"json": {"input": base64.b64encode(file).decode()}}


def by_url(url: str) -> dict[str, Any]:
    return {"json": {"input": [{"type": "image_url", "url": url}]}}


WAYS = {"form": as_form, "body": as_body, "JSON": as_json, "base64": as_text}

BAD_REQUESTS: dict[str, tuple[str, dict[str, Any], str]] = {
    # route, request, the parameter that the error names
    "truncated JPEG in a form": ("/v1/classify", as_form(COFFEE[:-2000]), "file"),
    "truncated JPEG as the body": ("/v1/detect", as_body(COFFEE[:-2000]), "body"),
    "truncated JPEG in JSON": ("/v1/faces", as_json(SMALL, COFFEE[:-2000]), "input[1]"),
    "PNG bomb in a form": ("/v1/ocr", as_form(BOMB), "file"),
    "PNG bomb in JSON": ("/v1/classify", as_json(BOMB), "input[0]"),
    "SVG in a form": ("/v1/classify", as_form(SVG), "file"),
    "SVG in a data URL": ("/v1/classify", by_url(data_url(SVG, "svg+xml")), "input[0].url"),
    "SVG that claims to be a JPEG": ("/v1/classify", as_json(SVG), "input[0]"),
    "no bytes in a form": ("/v1/classify", as_form(b""), "file"),
    "no bytes as the body": ("/v1/classify", as_body(b""), "body"),
    "no bytes in JSON": ("/v1/classify", as_json(b""), "input[0].url"),
    "NaN threshold in JSON": ("/v1/detect", as_json(SMALL, threshold=NAN), "threshold"),
    "NaN threshold in a form": ("/v1/detect", as_form(SMALL, threshold="nan"), "threshold"),
    "top_k 0": ("/v1/classify", as_json(SMALL, top_k=0), "top_k"),
    "top_k 100,000": ("/v1/faces", as_form(SMALL, top_k="100000"), "top_k"),
    "1,000 images in JSON": ("/v1/classify", as_json(*[SMALL] * 1000), "input"),
    "1,000 images in a form": ("/v1/classify", {"files": [("file", ("a.png", SMALL))] * 1000}, "file"),
}


def images(*files: bytes) -> list[pb.Image]:
    return [pb.Image(data=file) for file in files]


BAD_CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    # method, fields of its request, the field that the error names
    "truncated JPEG": ("Classify", {"images": images(SMALL, COFFEE[:-2000])}, "images[1].data"),
    "PNG bomb": ("ReadText", {"images": images(BOMB)}, "images[0].data"),
    "SVG": ("Detect", {"images": images(SVG)}, "images[0].data"),
    "no bytes": ("DetectFaces", {"images": images(b"")}, "images[0].data"),
    "NaN threshold": ("Detect", {"images": images(SMALL), "threshold": NAN}, "threshold"),
    "top_k 0": ("Classify", {"images": images(SMALL), "top_k": 0}, "top_k"),
    "top_k 100,000": ("DetectFaces", {"images": images(SMALL), "top_k": 100_000}, "top_k"),
    "1,000 images": ("Classify", {"images": images(SMALL) * 1000}, "images"),
}
