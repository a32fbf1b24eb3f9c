"""Which addresses may be connected to: typed by people and read from lists, they could point inwards.

What is checked is the address that is connected to, not the name: names may resolve to anything, and to something else
a moment later, and `2130706433`, `0177.1` and `::ffff:127.0.0.1` are all ways to write a loopback address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from as2certs.as2.errors import AddressRefused

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARACTERS = 2000
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
        *("::/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/2", "8000::/1"),
    )
)
"""What RFC 6890 and its successors keep for other purposes; 168.63.129.16, at which Azure answers its own machines; and
of IPv6 all but global unicast, 2000::/3, without what wraps IPv4 (Teredo, 6to4)."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_EXAMPLE = "https://as2.example.com:4080/as2"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """The parts of a URL: scheme "http" or "https", host in ASCII, port, and path with query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_encrypted(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Return host and port, as a proxy is asked for them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """Return the host, and the port unless it is the usual one."""
        return self.authority.removesuffix(f":{_PORTS[self.scheme]}")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_url(url: str) -> Target:
    """Return the parts of a station's URL. Raises AddressRefused for one that can't be one."""
    if len(url) > MAX_URL_CHARACTERS or not url.isprintable() or " " in url:
        raise AddressRefused(
            f"The address has blanks or control characters, or more than {MAX_URL_CHARACTERS} characters: copy it"
            " again."
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        ascii_host = host if host.isascii() else host.encode("idna").decode("ascii")
    except ValueError:
        raise AddressRefused(
            f"“{url}” is no valid address: use one such as https://as2.example.com:4080/as2."
        ) from None
    if parts.scheme not in _PORTS or not ascii_host or port == 0:
        raise AddressRefused(f"“{url}” is no HTTP address: use one such as {_EXAMPLE}.")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("The address holds a user name or a password, which are not sent: remove it.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii():
        raise AddressRefused("The path of the address has other characters than ASCII: write them with percent signs.")
    return Target(parts.scheme, ascii_host, port or _PORTS[parts.scheme], path)


def resolve(host: str, port: int, allowed: Sequence[IpNetwork] = ()) -> list[IpAddress]:
    """Return the addresses of a host that may be connected to: public ones, and those in `allowed` networks.

    Waits for the resolver of the system. Raises AddressRefused if there are others only, and OSError if there are none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError:
        raise AddressRefused(f"“{host}” is no valid host name.") from None
    addresses = list(dict.fromkeys(_address(str(entry[4][0])) for entry in found))
    usable = [address for address in addresses if may_connect(address, allowed)]
    if not usable:
        shown = ", ".join(map(str, addresses[:3]))
        raise AddressRefused(
            f"{host} is {shown}, an address inside a network, and only public addresses are connected to:"
            " check the address, or let the administrator allow that network."
        )
    return usable


def is_address(host: str) -> bool:
    """Return whether a host is an address in any notation that the system reads, rather than a name."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def may_connect(address: IpAddress, allowed: Iterable[IpNetwork] = ()) -> bool:
    """Return whether an address is public, or in one of the networks that are allowed."""
    plain = _without_mapping(address)
    if any(plain in network for network in allowed):
        return True
    if plain in _NAT64:
        return may_connect(ipaddress.IPv4Address(int(plain) & 0xFFFFFFFF))
    return not any(plain in network for network in _NOT_PUBLIC)


def _address(text: str) -> IpAddress:
    return ipaddress.ip_address(text.partition("%")[0])


def _without_mapping(address: IpAddress) -> IpAddress:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
