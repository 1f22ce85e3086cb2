import pytest

from services.gateway.resolution import Endpoint, resolve


async def test_literal_addresses_of_both_families() -> None:
    assert await resolve(["127.0.0.1:1", "[::1]:2"]) == {
        Endpoint("ipv4:127.0.0.1:1", "127.0.0.1:1"),
        Endpoint("ipv6:[::1]:2", "[::1]:2"),
    }


async def test_a_name_stands_for_its_addresses_and_stays_the_authority() -> None:
    assert Endpoint("ipv4:127.0.0.1:7", "localhost:7") in await resolve(["localhost:7"])


async def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(OSError, match=r".+"):
        await resolve(["name.invalid:1"])
