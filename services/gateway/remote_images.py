"""Images by URL: fetched only from hosts the settings name, and never from an address inside the network.

The name is resolved here, every address is checked, and the connection goes to the checked address: a name that
resolves differently the next time (DNS rebinding) gains nothing. Redirects are followed by hand, with the same checks.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from services.common.errors import ServiceError, invalid
from services.gateway.schemas.vision import ImageSource

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

MOST_REDIRECTS = 3
AT_A_TIME = 8  # images of one request
REFUSED, FAILED = "image_url_refused", "image_url_failed"
_PORTS = {"http": 80, "https": 443}
_ENTRY = re.compile(r"(?P<wild>\*\.)?(?P<host>[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """An entry of the allow-list."""

    host: str
    port: int | None
    """None: the port of the scheme."""
    subdomains: bool
    """Whether it stands for every name that ends with it, and not for itself."""

    def allows(self, host: str, port: int, scheme: str) -> bool:
        """Whether a URL with this host, port and scheme may be fetched."""
        named = host.endswith(f".{self.host}") if self.subdomains else host == self.host
        return named and port == (self.port or _PORTS[scheme])


def parse_hosts(text: str) -> tuple[AllowedHost, ...]:
    """Return the entries of a comma separated list: `host`, `host:port`, `*.host`. Raises ValueError."""
    return tuple(_entry(part.strip()) for part in text.split(",") if part.strip())


def _entry(text: str) -> AllowedHost:
    found = _ENTRY.fullmatch(text.lower())
    port = int(found["port"]) if found and found["port"] else None
    if found is None or port == 0 or (port or 0) > 65535:
        raise ValueError(f"{text!r} is not a host, host:port or *.host")
    return AllowedHost(found["host"].strip("[]"), port, bool(found["wild"]))


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet and carries no other address inside it."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    return not (address.is_site_local or address.ipv4_mapped or address.sixtofour or address.teredo)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the numeric addresses of `host`. Raises OSError."""
    rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(row[4][0]) for row in rows]


@dataclass(slots=True)
class _Allowance:
    """Bytes that the images of one request may still bring."""

    left: int

    def take(self, size: int, field: str) -> None:
        if size > self.left:
            raise _failed(field, "is over the size limit of a request")
        self.left -= size


class RemoteImages:
    """Fetches images by URL, each within `seconds`, those of one request together at most `limit` bytes."""

    def __init__(
        self,
        hosts: Sequence[AllowedHost],
        limit: int,
        seconds: float,
        *,
        resolver: Resolver = resolve,
        is_allowed_address: Callable[[Address], bool] = is_public,
    ) -> None:
        self._hosts, self._limit, self._seconds = hosts, limit, seconds
        self._resolve, self._is_allowed = resolver, is_allowed_address
        self._tls: ssl.SSLContext | bool = httpx.create_ssl_context(trust_env=False) if hosts else True

    async def fetch(self, sources: Sequence[ImageSource]) -> list[bytes]:
        """Return the images in order. Raises INVALID_ARGUMENT that names the field, with a code of docs/errors.md."""
        allowance, turn = _Allowance(self._limit), asyncio.Semaphore(AT_A_TIME)

        async def one(source: ImageSource) -> bytes:
            async with turn:
                return await self._within_time(source.field, str(source.value), allowance)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(source)) for source in sources]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _within_time(self, field: str, text: str, allowance: _Allowance) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._follow(field, _parsed(field, text), allowance)
        except TimeoutError:
            raise _failed(field, f"could not be fetched within {self._seconds:g} s") from None

    async def _follow(self, field: str, url: httpx.URL, allowance: _Allowance) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            async with self._answer(field, url) as response:
                if not response.has_redirect_location:
                    return await _image(field, response, allowance)
                url = _parsed(field, response.headers["location"], url)
        raise _failed(field, f"redirects more than {MOST_REDIRECTS} times")

    @asynccontextmanager
    async def _answer(self, field: str, url: httpx.URL) -> AsyncIterator[httpx.Response]:
        """Send GET to a checked address of the host. One client per request: no connection is shared between names."""
        addresses = await self._checked(field, url)
        try:
            async with httpx.AsyncClient(
                verify=self._tls, trust_env=False, timeout=self._seconds, follow_redirects=False
            ) as client:
                response = await _first_that_connects(client, url, addresses)
                try:
                    yield response
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _failed(field, f"could not be fetched: {type(error).__name__}") from None

    async def _checked(self, field: str, url: httpx.URL) -> list[str]:
        """Return the addresses of the URL's host, all of them allowed."""
        host, port = _host(url), url.port or _PORTS[url.scheme]
        if not any(entry.allows(host, port, url.scheme) for entry in self._hosts):
            place = host[:253] if port == _PORTS[url.scheme] else f"{host[:253]}:{port}"
            message = f"{field} is a URL of a host that is not allowed; send a data URL, or have the operator of the"
            raise invalid(field, f"{message} gateway add '{place}' to FLOTILLA_GATEWAY_IMAGE_URL_HOSTS", code=REFUSED)
        try:
            addresses = list(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError):
            raise _failed(field, f"has a host that cannot be resolved: {host}") from None
        if not addresses:
            raise _failed(field, f"has a host without an address: {host}")
        if not all(self._is_allowed(ipaddress.ip_address(address)) for address in addresses):
            message = f"{field} leads to an address that is not public: {host}"
            raise invalid(field, message, code=REFUSED)
        return addresses


async def _first_that_connects(client: httpx.AsyncClient, url: httpx.URL, addresses: Sequence[str]) -> httpx.Response:
    """Send the request to the first address that takes the connection; name and certificate stay those of the host."""
    headers = {"host": url.netloc.decode(), "accept": "image/*", "accept-encoding": "identity"}
    for address in addresses:
        request = client.build_request(
            "GET", url.copy_with(host=address), headers=headers, extensions={"sni_hostname": _host(url)}
        )
        try:
            return await client.send(request, stream=True)
        except httpx.ConnectError:
            if address is addresses[-1]:
                raise
    raise AssertionError("there is at least one address")


async def _image(field: str, response: httpx.Response, allowance: _Allowance) -> bytes:
    """Return the body of an answer that is an image, refused as soon as it is too large."""
    if not response.is_success:
        raise _failed(field, f"could not be fetched: the server answered {response.status_code}")
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media_type.startswith("image/") and media_type != "application/octet-stream":
        raise _failed(field, f"is no image: the server sent '{media_type[:64]}'")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _failed(field, "came compressed, which was not asked for")
    parts = []
    async for part in response.aiter_raw():
        allowance.take(len(part), field)
        parts.append(part)
    if not parts:
        raise _failed(field, "is empty; it must be an image")
    return b"".join(parts)


def _parsed(field: str, text: str, base: httpx.URL | None = None) -> httpx.URL:
    """Return the URL, resolved against `base` where there is one."""
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        host = _host(url)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise invalid(field, f"{field} is not a usable URL", code=REFUSED) from None
    if url.scheme not in _PORTS or not host:
        raise invalid(field, f"{field} must be a URL with http or https", code=REFUSED)
    if url.userinfo:
        raise invalid(field, f"{field} must not carry a user name or a password", code=REFUSED)
    return url


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").lower().rstrip(".")


def _failed(field: str, sentence: str) -> ServiceError:
    return invalid(field, f"{field} {sentence}", code=FAILED)
