"""Images by URL: what is fetched, and everything that is refused, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from services.gateway.remote_images import RemoteImages, parse_hosts
from tests.integration.gateway.fake_vision import FakeVision
from tests.integration.gateway.gateway import Gateway, running

IMAGE = b"an image from elsewhere"
LIMIT = 4096
PUBLIC, PRIVATE = "127.0.0.1", "10.0.0.1"  # in the eyes of these tests
NAMES = {
    "images.test": [PUBLIC],
    "a.images.test": [PUBLIC],
    "inside.images.test": [PRIVATE],
    "mixed.images.test": [PUBLIC, PRIVATE],
    "two.images.test": ["127.0.0.2", PUBLIC],
    "nowhere.images.test": [],
}


def answer(body: bytes = IMAGE, status: str = "200 OK", **headers: str) -> bytes:
    """A response that ends with the connection."""
    lines = {"content-type": "image/png", **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def redirect(location: str) -> bytes:
    return answer(b"", "302 Found", location=location)


@dataclass
class Elsewhere:
    """A server of images, and the names that lead to it."""

    answers: dict[str, bytes | None] = field(default_factory=dict)
    """By path; None never answers."""
    heads: list[bytes] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    port: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/", host: str = "images.test") -> str:
        return f"http://{host}:{self.port}{path}"

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.resolved.append(host)
        if host not in NAMES:
            raise OSError("unknown name")
        return NAMES[host]

    def remote_images(self, seconds: float = 30, **options: Any) -> RemoteImages:
        hosts = parse_hosts(f"images.test:{self.port}, *.images.test:{self.port}, gone.test, 127.0.0.1:{self.port}")
        options = {"is_allowed_address": lambda address: address.is_loopback, **options}
        return RemoteImages(hosts, LIMIT, seconds, resolver=self.resolve, **options)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            found = self.answers.get(self.heads[-1].split()[1].decode(), answer(b"", "404 Not Found"))
            self.asked.set()
            if found is None:
                await reader.read()
                self.left.set()
            else:
                writer.write(found)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Elsewhere"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    async with Elsewhere().running() as server:
        yield server


@pytest.fixture
async def gateway(elsewhere: Elsewhere, vision: FakeVision) -> AsyncIterator[Gateway]:
    async with running(vision_addresses=vision.address, remote_images=elsewhere.remote_images()) as started:
        yield started


async def classify(gateway: Gateway, *urls: str, **headers: str) -> httpx.Response:
    body = {"input": [{"type": "image_url", "url": url} for url in urls]}
    return await gateway.http.post("/v1/classify", json=body, headers=headers)


async def assert_refused(gateway: Gateway, url: str, words: str, code: str | None = "image_url_refused") -> None:
    """The URL is refused by name, and the next request works."""
    response = await classify(gateway, url)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "input[0].url", code)
    assert words in error["message"]
    assert (await classify(gateway, "data:image/png;base64,aGVs")).status_code == 200


async def test_images_are_fetched_and_keep_their_order(
    gateway: Gateway, vision: FakeVision, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    elsewhere.answers = {f"/{i}": answer(b"%d" % i) for i in range(20)}
    urls = [elsewhere.url(f"/{i}", "a.images.test") for i in range(20)]
    assert (await classify(gateway, "data:image/png;base64,aGVs", *urls)).status_code == 200
    assert [image.data for image in vision.requests[-1].images] == [b"hel", *(b"%d" % i for i in range(20))]
    assert all(f"host: a.images.test:{elsewhere.port}".encode() in head.lower() for head in elsewhere.heads)


@pytest.mark.parametrize("media_type", ["image/jpeg", "IMAGE/PNG; charset=x", "application/octet-stream"])
async def test_what_counts_as_an_image(gateway: Gateway, elsewhere: Elsewhere, media_type: str) -> None:
    elsewhere.answers["/"] = answer(content_type=media_type)
    assert (await classify(gateway, elsewhere.url())).status_code == 200


async def test_one_resolution_decides_where_the_connection_goes(gateway: Gateway, elsewhere: Elsewhere) -> None:
    elsewhere.answers["/"] = answer()
    assert (await classify(gateway, elsewhere.url())).status_code == 200
    assert elsewhere.resolved == ["images.test"]


async def test_an_address_that_takes_no_connection_leads_to_the_next(gateway: Gateway, elsewhere: Elsewhere) -> None:
    elsewhere.answers["/"] = answer()
    assert (await classify(gateway, elsewhere.url(host="two.images.test"))).status_code == 200


async def test_redirects_are_followed(gateway: Gateway, vision: FakeVision, elsewhere: Elsewhere) -> None:
    elsewhere.answers = {
        "/1": redirect("/2"),
        "/2": redirect(elsewhere.url("/3", "a.images.test")),
        "/3": redirect("4"),
        "/4": answer(),
    }
    assert (await classify(gateway, elsewhere.url("/1"))).status_code == 200
    assert vision.requests[-1].images[0].data == IMAGE
    assert elsewhere.resolved == ["images.test", "images.test", "a.images.test", "a.images.test"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://other.test/a.png", "'other.test'"),
        ("http://images.test/a.png", "'images.test'"),
        ("https://images.test:{port}@other.test/", "user name"),
        ("http://user:secret@images.test:{port}/", "user name"),
        ("http://inside.images.test:{port}/", "not public"),
        ("http://mixed.images.test:{port}/", "not public"),
        ("http://[::1]:{port}/", "not allowed"),
        ("http://2130706433:{port}/", "not allowed"),
        ("http://localhost:{port}/", "not allowed"),
        ("http://images.test:{port}\\@other.test/", "user name"),
        ("http:///a.png", "http or https"),
        ("http://images.test:port/", "not a usable URL"),
        ("http://ex ample.test/\x01", "not a usable URL"),
    ],
)
async def test_urls_that_are_not_fetched(gateway: Gateway, elsewhere: Elsewhere, url: str, words: str) -> None:
    await assert_refused(gateway, url.replace("{port}", str(elsewhere.port)), words)
    assert elsewhere.heads == []


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://other.test/a.png", "'other.test'"),
        ("http://inside.images.test:{port}/", "not public"),
        ("http://127.0.0.1/", "not allowed"),
        ("//169.254.169.254/latest/meta-data", "not allowed"),
        ("file:///etc/passwd", "http or https"),
        ("http://user@images.test:{port}/", "user name"),
        ("http://[", "not allowed"),
    ],
)
async def test_redirects_are_held_to_the_same_rules(
    gateway: Gateway, elsewhere: Elsewhere, location: str, words: str
) -> None:
    elsewhere.answers["/"] = redirect(location.replace("{port}", str(elsewhere.port)))
    await assert_refused(gateway, elsewhere.url(), words)
    assert len(elsewhere.heads) == 1


async def test_private_addresses_are_refused_on_the_list_or_not(vision: FakeVision, elsewhere: Elsewhere) -> None:
    hosts = parse_hosts(f"127.0.0.1:{elsewhere.port}, localhost:{elsewhere.port}")
    async with running(vision_addresses=vision.address, remote_images=RemoteImages(hosts, LIMIT, 30)) as gateway:
        for host in ("127.0.0.1", "localhost"):
            await assert_refused(gateway, elsewhere.url(host=host), "not public")
    assert elsewhere.heads == []


async def test_the_settings_open_the_list(vision: FakeVision) -> None:
    async with running(vision_addresses=vision.address, image_url_hosts="127.0.0.1:9, images.test") as gateway:
        await assert_refused(gateway, "http://127.0.0.1:9/", "not public")
        await assert_refused(gateway, "http://127.0.0.1/", "FLOTILLA_GATEWAY_IMAGE_URL_HOSTS")


CHUNKED = b"".join(b"400\r\n" + b"a" * 0x400 + b"\r\n" for _ in range(5)) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (answer(b"", "404 Not Found"), "404"),
        (answer(b"", "500 Oops"), "500"),
        (answer(b"", "304 Not Modified"), "304"),
        (answer(content_type="text/html"), "text/html"),
        (answer(content_type=""), "no image"),
        (answer(content_encoding="gzip"), "compressed"),
        (answer(b""), "is empty"),
        (answer(b"a" * (LIMIT + 1)), "size limit"),
        (answer(CHUNKED, transfer_encoding="chunked"), "size limit"),
        (answer(b"short", content_length="10"), "could not be fetched"),
        (b"nonsense\r\n\r\n", "could not be fetched"),
        (b"", "could not be fetched"),
        (redirect("/"), "more than 3 times"),
    ],
)
async def test_answers_that_are_no_image(gateway: Gateway, elsewhere: Elsewhere, served: bytes, words: str) -> None:
    elsewhere.answers["/"] = served
    await assert_refused(gateway, elsewhere.url(), words, "image_url_failed")


async def test_all_images_of_a_request_share_one_limit(gateway: Gateway, elsewhere: Elsewhere) -> None:
    elsewhere.answers["/"] = answer(b"a" * (LIMIT // 2))
    assert (await classify(gateway, *[elsewhere.url()] * 2)).status_code == 200
    response = await classify(gateway, *[elsewhere.url()] * 3)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "image_url_failed")


@pytest.mark.parametrize("host", ["gone.test", "nowhere.images.test"])
async def test_names_without_an_address(gateway: Gateway, elsewhere: Elsewhere, host: str) -> None:
    url = "http://gone.test/" if host == "gone.test" else elsewhere.url(host=host)
    await assert_refused(gateway, url, host, "image_url_failed")


async def test_a_slow_server_is_given_up(vision: FakeVision, elsewhere: Elsewhere) -> None:
    elsewhere.answers["/"] = None
    remote = elsewhere.remote_images(seconds=0.05)
    async with running(vision_addresses=vision.address, remote_images=remote) as gateway:
        await assert_refused(gateway, elsewhere.url(), "within 0.05 s", "image_url_failed")


async def test_the_deadline_of_the_request_holds_while_images_are_fetched(
    gateway: Gateway, elsewhere: Elsewhere
) -> None:
    elsewhere.answers["/"] = None
    response = await classify(gateway, elsewhere.url(), **{"x-flotilla-timeout-ms": "50"})
    assert (response.status_code, response.json()["error"]["type"]) == (504, "timeout_error")


async def test_a_client_that_leaves_ends_the_fetching(gateway: Gateway, elsewhere: Elsewhere) -> None:
    elsewhere.answers["/"] = None
    sending = asyncio.create_task(classify(gateway, elsewhere.url()))
    await elsewhere.asked.wait()
    sending.cancel()
    await elsewhere.left.wait()


async def test_a_refused_image_ends_the_fetching_of_the_others(gateway: Gateway, elsewhere: Elsewhere) -> None:
    elsewhere.answers["/"] = None
    response = await classify(gateway, elsewhere.url(), "http://other.test/")
    assert response.json()["error"]["param"] == "input[1].url"


async def test_tls_asks_for_the_name_and_not_for_the_address(vision: FakeVision, elsewhere: Elsewhere) -> None:
    hello = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.set_result(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    elsewhere.port = server.sockets[0].getsockname()[1]
    async with (
        server,
        running(vision_addresses=vision.address, remote_images=elsewhere.remote_images()) as gateway,
    ):
        url = f"https://images.test:{elsewhere.port}/"
        await assert_refused(gateway, url, "could not be fetched", "image_url_failed")
    assert b"images.test" in hello.result()
