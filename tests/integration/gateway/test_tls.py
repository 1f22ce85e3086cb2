"""TLS and mTLS on both ports; certificates that change while it runs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from flotilla.embedding.v1 import embedding_pb2, embedding_pb2_grpc

from services.common.server import StartupError
from services.gateway.settings import GatewaySettings
from services.gateway.tls import tls
from tests.integration.gateway.fake_embedding import FakeEmbedding
from tests.integration.gateway.gateway import Gateway, running
from tests.waiting import until


class Authority:
    """Makes certificates and writes them to files."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder

    def certificate(self, name: str = "localhost") -> dict[str, str]:
        """Write a server certificate; return the settings that name it."""
        found = self.ca.issue_cert(name)
        certificate, key = self.folder / "tls.crt", self.folder / "tls.key"
        found.private_key_pem.write_to_path(key)
        certificate.write_bytes(b"".join(blob.bytes() for blob in found.cert_chain_pems))
        return {"tls_certificate_file": str(certificate), "tls_key_file": str(key)}

    def trusted_clients(self, other: "Authority | None" = None) -> dict[str, str]:
        """Write whose clients are let in; return the setting that names the file."""
        path = self.folder / "ca.crt"
        (other or self).ca.cert_pem.write_to_path(path)
        return {"tls_client_ca_file": str(path)}


@asynccontextmanager
async def client(gateway: Gateway, authority: Authority, own: Any = None) -> AsyncIterator[httpx.AsyncClient]:
    context = ssl.create_default_context()
    authority.ca.configure_trust(context)
    if own is not None:
        own.configure_cert(context)
    url = f"https://localhost:{gateway.http_port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=context, timeout=30) as http:
        yield http


async def works(gateway: Gateway, authority: Authority, own: Any = None) -> bool:
    """Whether a new connection gets an answer."""
    try:
        async with client(gateway, authority, own) as http:
            return (await http.get("/v1/health/live")).status_code == 200
    except httpx.TransportError:
        return False


async def works_by_grpc(gateway: Gateway, authority: Authority, own: Any = None) -> bool:
    chain = None if own is None else b"".join(blob.bytes() for blob in own.cert_chain_pems)
    key = None if own is None else own.private_key_pem.bytes()
    credentials = grpc.ssl_channel_credentials(authority.ca.cert_pem.bytes(), key, chain)
    async with grpc.aio.secure_channel(f"localhost:{gateway.grpc_port}", credentials) as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        try:
            await stub.ListModels(embedding_pb2.ListModelsRequest(), timeout=10)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return False
        return True


async def test_both_ports_speak_tls_and_nothing_else(embedding: FakeEmbedding, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with running(embedding.address, **authority.certificate()) as gateway:
        async with client(gateway, authority) as http:
            response = await http.get("/v1/health/live")
            assert response.headers["strict-transport-security"] == "max-age=31536000"
        assert await works_by_grpc(gateway, authority)
        with pytest.raises(httpx.TransportError):
            await gateway.http.get("/v1/health/live")
        assert not await works(gateway, Authority(tmp_path))


async def test_mtls_asks_for_a_certificate(embedding: FakeEmbedding, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path)
    settings = {**authority.certificate(), **authority.trusted_clients()}
    async with running(embedding.address, **settings) as gateway:
        for check in (works, works_by_grpc):
            assert await check(gateway, authority, authority.ca.issue_cert("client"))
            assert not await check(gateway, authority, stranger.ca.issue_cert("client"))
            assert not await check(gateway, authority)


async def test_changed_files_hold_for_new_connections(
    embedding: FakeEmbedding, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = Authority(tmp_path), Authority(tmp_path)
    old_client, new_client = old.ca.issue_cert("client"), new.ca.issue_cert("client")
    settings = {**old.certificate(), **old.trusted_clients()}
    async with running(embedding.address, **settings) as gateway, client(gateway, old, old_client) as open_connection:
        await open_connection.get("/v1/health/live")
        (tmp_path / "tls.crt").write_text("broken")
        await until(lambda: "stay in force" in caplog.text, "the complaint")
        assert await works(gateway, old, old_client)
        new.certificate()
        new.trusted_clients()

        async def changed() -> bool:
            return await works(gateway, new, new_client)

        await until(changed, "the new certificate")
        assert await works_by_grpc(gateway, new, new_client)
        assert not await works(gateway, new, old_client)
        assert not await works_by_grpc(gateway, new, old_client)
        assert (await open_connection.get("/v1/health/live")).status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tls_key_file": ""}, "both"),
        ({"tls_key_file": "/nowhere"}, "/nowhere: No such file"),
        ({"tls_certificate_file": __file__}, "no certificate with its key"),
        ({"tls_client_ca_file": __file__}, "no certificate"),
    ],
)
def test_unusable_files_stop_the_start_with_one_line(tmp_path: Path, change: dict[str, str], words: str) -> None:
    settings = GatewaySettings(**{**Authority(tmp_path).certificate(), **change})  # type: ignore[arg-type]
    with pytest.raises(StartupError, match=words):
        tls(settings)


async def test_a_handshake_that_is_not_finished_holds_up_nobody(embedding: FakeEmbedding, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with running(embedding.address, **authority.certificate()) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.http_port)
        assert await works(gateway, authority)
        writer.close()
