"""The allow-list of hosts and the addresses that are never connected to."""

from ipaddress import ip_address

import pytest

from services.gateway.remote_images import is_public, parse_hosts


@pytest.mark.parametrize(
    ("entries", "host", "port", "scheme", "allowed"),
    [
        ("images.test", "images.test", 443, "https", True),
        ("images.test", "images.test", 80, "http", True),
        ("images.test", "images.test", 80, "https", False),
        ("images.test", "images.test", 8443, "https", False),
        ("images.test:8443", "images.test", 8443, "https", True),
        ("images.test:8443", "images.test", 443, "https", False),
        ("images.test", "a.images.test", 443, "https", False),
        ("images.test", "evilimages.test", 443, "https", False),
        ("images.test", "images.test.evil.test", 443, "https", False),
        ("*.images.test", "a.images.test", 443, "https", True),
        ("*.images.test", "a.b.images.test", 443, "https", True),
        ("*.images.test", "images.test", 443, "https", False),
        ("*.images.test", "evilimages.test", 443, "https", False),
        ("*.images.test:81", "a.images.test", 81, "http", True),
        (" other.test , Images.Test ", "images.test", 443, "https", True),
        ("[2606:4700::1111]:8080", "2606:4700::1111", 8080, "http", True),
        ("", "images.test", 443, "https", False),
    ],
)
def test_the_allow_list(entries: str, host: str, port: int, scheme: str, allowed: bool) -> None:
    assert any(entry.allows(host, port, scheme) for entry in parse_hosts(entries)) is allowed


@pytest.mark.parametrize(
    "text", ["*", "*.", "http://a.test", "a.test/x", "a.test:0", "a.test:99999", "a b", "a..b", "ä"]
)
def test_an_entry_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        parse_hosts(f"fine.test, {text}")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "fc00::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
