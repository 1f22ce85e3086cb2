"""What docs/ promises is what the code does."""

import re
from pathlib import Path

import pytest

from services.common.errors import TABLE
from services.gateway.access.key_file import KeyLimits
from services.gateway.schemas.audio import AudioRequest
from services.gateway.schemas.chat import ChatRequest
from services.gateway.schemas.completions import CompletionsRequest
from services.gateway.schemas.embeddings import EmbeddingsRequest
from services.gateway.schemas.generation import GenerationRequest
from services.gateway.schemas.responses import ResponsesRequest
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running

_SECURITY_SETTINGS = (
    "keys_file",
    "allow_keyless",
    "keyless_metrics",
    "keyless_documents",
    "tls_certificate_file",
    "tls_key_file",
    "tls_client_ca_file",
    "cors_origins",
    "trusted_proxies",
    "header_limit_bytes",
    "header_limit_count",
    "header_timeout_seconds",
    "send_timeout_seconds",
)
DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_table_of_errors_is_the_table_of_the_code() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| (\d+) \| (\w+) \|", (DOCS / "errors.md").read_text(), re.M)
    assert rows == [(kind.name, row.grpc.name, str(row.http), row.openai) for kind, row in TABLE.items()]


async def test_every_documented_route_exists_and_every_route_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    documented = set(re.findall(r"(?:localhost:8000|also )(/[\w/.-]+)", text))
    async with FakeEmbedding().running() as fake, running(fake.address) as gateway:
        paths = (await gateway.http.get("/openapi.json")).json()["paths"]
    examples = {path.replace("{model}", name) for path in paths for name in ("all-minilm-l6-v2", "all_minilm_l6_v2")}
    assert documented <= examples
    for path in paths:
        assert re.sub(r"\{\w+\}", "", path) in text or path.split("{")[0] in text, path


def test_every_field_of_embeddings_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    assert [field for field in EmbeddingsRequest.model_fields if f"| `{field}` |" not in text] == []


@pytest.mark.parametrize("body", [ChatRequest, CompletionsRequest, ResponsesRequest])
def test_every_field_of_the_language_routes_is_documented(body: type[GenerationRequest]) -> None:
    text = (DOCS / "api.md").read_text()
    known = [*body.model_fields, *body.REFUSED]
    assert [field for field in known if not re.search(rf"`{field}`", text)] == []


def test_every_limit_of_a_key_and_every_setting_of_security_is_documented() -> None:
    text = (DOCS / "security.md").read_text()
    names = [*KeyLimits.model_fields, *_SECURITY_SETTINGS]
    assert [name for name in names if not re.search(rf"(`|_){name}\b", text, re.IGNORECASE)] == []
    assert set(_SECURITY_SETTINGS) <= GatewaySettings.model_fields.keys()


def test_every_field_of_the_audio_routes_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    known = [*AudioRequest.model_fields, *AudioRequest.REFUSED]
    assert [field for field in known if not re.search(rf"`{field}(\[\])?`", text)] == []


async def test_the_audio_routes_have_an_example_to_copy(asr_gateway: Gateway) -> None:
    paths = (await asr_gateway.http.get("/openapi.json")).json()["paths"]
    for route in ("transcriptions", "translations"):
        (kind,) = paths[f"/v1/audio/{route}"]["post"]["requestBody"]["content"].items()
        assert kind[0] == "multipart/form-data"
        assert set(kind[1]["example"]) <= AudioRequest.model_fields.keys()
