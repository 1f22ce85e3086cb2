"""The OpenAPI document and the page that shows it."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.gateway.examples import REQUESTS, request_for
from tests.integration.gateway.gateway import Gateway


@pytest.fixture
async def document(gateway: Gateway) -> AsyncIterator[dict[str, Any]]:
    yield (await gateway.http.get("/openapi.json")).json()


async def test_every_request_with_a_body_has_an_example(document: dict[str, Any]) -> None:
    without = [
        (path, media_type)
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
        if "example" not in content and content["schema"].get("type") != "string"
    ]
    assert without == []
    assert set(REQUESTS) <= set(document["paths"])


async def test_every_path_parameter_has_an_example(document: dict[str, Any]) -> None:
    parameters = [
        parameter
        for operations in document["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "path"
    ]
    assert parameters
    assert all(parameter["example"] for parameter in parameters)


async def test_the_examples_are_valid_requests(gateway: Gateway) -> None:
    checked = 0
    for path, operations in (await gateway.http.get("/openapi.json")).json()["paths"].items():
        body = request_for(path)
        if body is None or "application/json" not in operations["post"]["requestBody"]["content"]:
            continue
        address = path.replace("{model}", "fake_model").replace("{version}", "1")
        answer = await gateway.http.post(address, json=body)
        assert answer.status_code != 400 or "fake_model" in address, (path, answer.text)
        checked += 1
    assert checked > 15


async def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline(gateway: Gateway) -> None:
    page = await gateway.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in page.text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page.text)
    for address in re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text):
        asset = await gateway.http.get(f"/{address}")
        assert asset.status_code == 200
        assert asset.headers["content-type"].startswith(("text/javascript", "text/css"))
    assert (await gateway.http.get("/docs/redoc.standalone.js")).status_code == 404
    assert (await gateway.http.get("/docs/..%2f__init__.py")).status_code == 404
