"""The client address of a request: only our own proxies are trusted."""

from __future__ import annotations

import ipaddress

import pytest
from django.conf import LazySettings
from django.test import RequestFactory

from as2certs.audit.recording import client_address

OURS = ["10.0.0.5", "10.1.0.0/24", "fd00::/8"]


@pytest.fixture(autouse=True)
def _proxies(settings: LazySettings) -> None:
    settings.AS2CERTS_PROXIES = [ipaddress.ip_network(name) for name in OURS]


def came_from(peer: str, heard: str | None = None) -> str | None:
    headers = {} if heard is None else {"x-forwarded-for": heard}
    return client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer))


@pytest.mark.parametrize("heard", [None, "198.51.100.1", "10.0.0.5", "127.0.0.1, 10.0.0.5", "nonsense"])
def test_a_forged_header_is_not_believed(heard: str | None) -> None:
    assert came_from("203.0.113.9", heard) == "203.0.113.9"


def test_the_header_of_our_proxy_is_believed() -> None:
    assert came_from("10.0.0.5", "198.51.100.1") == "198.51.100.1"
    assert came_from("fd12::1", "2001:db8::7") == "2001:db8::7"


def test_forged_addresses_before_the_proxys_are_ignored() -> None:
    assert came_from("10.0.0.5", "192.0.2.1, 10.0.0.5, 198.51.100.1") == "198.51.100.1"
    assert came_from("10.0.0.5", "127.0.0.1,198.51.100.1") == "198.51.100.1"


def test_a_chain_of_our_proxies_is_followed() -> None:
    assert came_from("10.0.0.5", "192.0.2.1, 198.51.100.1, 10.1.0.7") == "198.51.100.1"


@pytest.mark.parametrize("heard", ["", "unknown", "198.51.100.1, unknown", "_hidden", "1.2.3", "\x00", "," * 99])
def test_an_invalid_address_ends_at_the_last_proxy(heard: str) -> None:
    assert came_from("10.0.0.5", heard) == "10.0.0.5"


def test_when_everybody_is_a_proxy_the_outermost_counts() -> None:
    assert came_from("10.0.0.5", "10.1.0.8, 10.1.0.7") == "10.1.0.8"


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("198.51.100.1:41234", "198.51.100.1"),
        ("[2001:db8::7]:41234", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
    ],
)
def test_ports_and_other_spellings_are_read(spelled: str, meant: str) -> None:
    assert came_from("10.0.0.5", spelled) == meant
    assert came_from("::ffff:10.0.0.5", spelled) == meant


def test_a_socket_has_no_address() -> None:
    assert came_from("", "198.51.100.1") is None


def test_no_proxy_is_trusted_by_default(settings: LazySettings) -> None:
    settings.AS2CERTS_PROXIES = []
    assert came_from("10.0.0.5", "198.51.100.1") == "10.0.0.5"
