"""Readiness and models over HTTP."""

from tests.integration.gateway.fake_embedding import MODEL, TRITON_MODEL, FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running


async def test_ready_is_the_gateways_own_and_names_each_service(gateway: Gateway, embedding: FakeEmbedding) -> None:
    await embedding.serve_nothing()
    await gateway.until_serving(False)
    for route in ("/v1/health/ready", "/v2/health/ready"):
        response = await gateway.http.get(route)
        body = response.json()
        assert (response.status_code, body["object"], body["ready"]) == (200, "health.response", True)
        assert body["services"]["embedding"]["ready"] is False
        assert "not serving" in body["services"]["embedding"]["message"]


async def test_live(gateway: Gateway) -> None:
    for route in ("/v1/health/live", "/v2/health/live"):
        assert (await gateway.http.get(route)).json()["live"] is True


async def test_ready_of_a_model_is_that_of_its_service(gateway: Gateway, embedding: FakeEmbedding) -> None:
    for name in (MODEL, TRITON_MODEL):
        assert (await gateway.http.get(f"/v2/models/{name}/ready")).status_code == 200
    assert (await gateway.http.get("/v2/models/nope/ready")).status_code == 404
    await embedding.serve_nothing()
    await gateway.until_serving(False)
    for name in (MODEL, TRITON_MODEL):
        assert (await gateway.http.get(f"/v2/models/{name}/ready")).status_code == 503


async def test_models(gateway: Gateway) -> None:
    body = (await gateway.http.get("/v1/models")).json()
    (row,) = body["data"]
    assert body["object"] == "list"
    assert (row["id"], row["object"], row["owned_by"], row["root"]) == (MODEL, "model", "flotilla", MODEL)
    assert (await gateway.http.get(f"/v1/models/{MODEL}")).json() == row


async def test_an_unknown_model_is_404_and_lists_what_is_loaded(gateway: Gateway) -> None:
    response = await gateway.http.get("/v1/models/nope")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert MODEL in error["message"]


async def test_models_of_a_service_that_is_down_are_not_listed(gateway: Gateway, embedding: FakeEmbedding) -> None:
    await embedding.serve_nothing()
    await gateway.until_serving(False)
    assert (await gateway.http.get("/v1/models")).json()["data"] == []
    await embedding.serve_again()
    await gateway.until_serving()
    assert len((await gateway.http.get("/v1/models")).json()["data"]) == 1


async def test_a_gateway_starts_without_its_services() -> None:
    async with FakeEmbedding().running() as gone:
        pass
    async with running(gone.address) as gateway:
        assert (await gateway.http.get("/v1/health/ready")).status_code == 200
        assert (await gateway.http.get("/v1/models")).json()["data"] == []


async def test_metadata_and_version_in_the_shape_of_nim(gateway: Gateway) -> None:
    metadata = (await gateway.http.get("/v1/metadata")).json()
    assert metadata["modelInfo"][0]["shortName"] == MODEL
    assert metadata["selectedModelProfileId"] == "cpu-fp32"
    assert set((await gateway.http.get("/v1/version")).json()) == {"release", "api"}
    manifest = (await gateway.http.get("/v1/manifest")).json()
    assert manifest["profiles"][0]["model"] == MODEL
    assert "[models." in manifest["manifest_file"]
    licence = (await gateway.http.get("/v1/license")).json()
    assert (licence["name"], licence["size"]) == ("Apache-2.0", len(licence["content"].encode()))
    assert "Apache License" in licence["content"]


async def test_before_a_service_was_ever_heard_its_models_are_unavailable_not_unknown() -> None:
    async with FakeEmbedding().running() as gone:
        pass
    async with running(gone.address) as gateway:
        for route in ("/v1/models/any", "/v2/models/any/ready"):
            assert (await gateway.http.get(route)).status_code == 503
