"""Browsers' pages, and proxies in front."""

import logging
from pathlib import Path

import pytest

from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running
from tests.integration.gateway.key_files import Keys, bearer

PAGE = "https://app.example.com"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


def access_log(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "services.gateway.edge"]


async def test_no_page_may_call_unless_the_settings_say_so(gateway: Gateway) -> None:
    assert (await gateway.http.options("/v1/embeddings", headers=PREFLIGHT)).status_code == 405
    response = await gateway.http.get("/v1/models", headers={"origin": PAGE})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_a_page_that_may_call_needs_its_key_but_not_for_the_preflight(
    embedding: FakeEmbedding, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys.json")
    secret = keys.add(limits={"requests_per_minute": 5})
    async with running(embedding.address, cors_origins=f"{PAGE}, https://b", keys_file=str(keys.path)) as gateway:
        preflight = await gateway.http.options("/v1/embeddings", headers=PREFLIGHT)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        other = await gateway.http.options("/v1/embeddings", headers={**PREFLIGHT, "origin": "https://evil"})
        assert "access-control-allow-origin" not in other.headers
        for headers, status in (({}, 401), (bearer(secret), 200)):
            response = await gateway.http.get("/v1/models", headers={"origin": PAGE, **headers})
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == PAGE
            assert "x-ratelimit-remaining-requests" in response.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    ("proxies", "expected"), [("", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.9"), ("10.0.0.1", "127.0.0.1")]
)
async def test_only_trusted_proxies_say_who_calls(
    embedding: FakeEmbedding, caplog: pytest.LogCaptureFixture, proxies: str, expected: str
) -> None:
    caplog.set_level(logging.INFO)
    async with running(embedding.address, trusted_proxies=proxies) as gateway:
        forwarded = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
        response = await gateway.http.get("/v1/version", headers=forwarded)
    (line,) = access_log(caplog)
    assert vars(line)["client"] == expected
    assert ("strict-transport-security" in response.headers) == (expected != "127.0.0.1")


async def test_the_access_log_has_the_key_id_and_no_content(
    embedding: FakeEmbedding, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys = Keys(tmp_path / "keys.json")
    secret = keys.add()
    async with running(embedding.address, keys_file=str(keys.path)) as gateway:
        gateway.http.headers.update(bearer(secret))
        await gateway.embed(input="very private")
        await gateway.http.get("/v1/models/private-model?private=query")
    lines = access_log(caplog)
    assert [vars(line)["key"] for line in lines] == [secret.split("_")[1]] * 2
    assert not [line for line in lines if "private" in line.getMessage()]
