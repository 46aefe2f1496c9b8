"""Keep downloads out of private networks (server-side request forgery).

A url is checked before it is requested, and each address again when a socket is created for it, after resolution: so
neither a name that resolves differently the second time nor an IP literal, which no resolver sees, gets through.
"""

import asyncio
import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from yarl import URL

from ..errors import UnsafeAddressError
from ..redact import SignedUrl, without_query

__all__ = ["BlockedAddressError", "check_resolved", "check_url", "is_public", "parse_url", "public_socket"]

AddrInfo: TypeAlias = tuple[
    int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]
]

_UNICAST_6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# `is_global` differs between Python versions and passes these; most are in IANA's special-purpose registries.
_NOT_PUBLIC = [
    ip_network(each)
    for each in (
        "168.63.129.16/32",  # Azure's host, which answers only to its guests
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's metadata service
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # relays of 6to4
        "192.175.48.0/24",  # AS112
        "224.0.0.0/3",  # multicast and reserved
        "2001::/23",  # IETF protocol assignments; Teredo, which hides an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which hides an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]

_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# RFC 6761, 6762, 8375, 9476, and what private zones are called in practice.
_PRIVATE_ZONES = (".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home.arpa", ".alt")


class BlockedAddressError(OSError):
    """A socket was asked for an address that is not public."""

    def __init__(self, address: str) -> None:
        super().__init__("the address is not public")
        self.address = address


def is_public(address: str) -> bool:
    """Say whether `address`, an IP address in its canonical form, is a public unicast one."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        embedded = IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else found.ipv4_mapped
        if found.scope_id is not None or (embedded is None and found not in _UNICAST_6):
            return False
        found = embedded or found
    return found.is_global and not any(found in network for network in _NOT_PUBLIC)


def public_socket(info: AddrInfo) -> socket.socket:
    """Make a socket for an address that was resolved, or raise `BlockedAddressError`."""
    family, kind, protocol, _, address = info
    if not is_public(address[0]):
        raise BlockedAddressError(address[0])
    return socket.socket(family, kind, protocol)


async def check_resolved(host: str, port: int | None) -> None:
    """Refuse a name that resolves, here, to an address that is not public.

    This is for proxies, which resolve the name themselves: it catches names that are private everywhere, not one that
    the proxy resolves differently. A name that can't be resolved here is left to the proxy.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return
    for address in (str(info[4][0]) for info in found):
        if not is_public(address):
            raise UnsafeAddressError(f"{host} leads to {address}, which is not a public address")


def check_url(url: str, *, allow_http: bool, allow_private: bool, base: SignedUrl | None = None) -> SignedUrl:
    """Return `url`, resolved against `base`, in the spelling that is sent: a signature may cover it.

    Raises:
        UnsafeAddressError: it is not an https url of a public host, as far as its form tells.
    """
    if not isinstance(url, str):
        raise TypeError(f"a url must be a str, not {type(url).__name__}")
    url = SignedUrl(url)
    try:
        checked, problem = _examine(url, base, allow_http=allow_http or allow_private, allow_private=allow_private)
    except ValueError:
        checked, problem = url, f"{without_query(url)[:200]!r} is not a url"
    # Raised here, where no local variable shows the query: the repr of a yarl.URL does.
    if problem is not None:
        raise UnsafeAddressError(problem)
    return checked


def parse_url(url: str) -> URL:
    """Return `url` parsed and not quoted anew unless it could not be sent as it is."""
    return URL(str(url), encoded=url.isascii() and " " not in url)


def _examine(
    url: SignedUrl, base: SignedUrl | None, *, allow_http: bool, allow_private: bool
) -> tuple[SignedUrl, str | None]:
    """Return the absolute url, and why it may not be fetched; it raises ValueError where it can't be parsed."""
    if _CONTROL.search(url):
        raise ValueError("control character")
    parsed = parse_url(url) if base is None else parse_url(base).join(parse_url(url))
    parsed = parsed.with_fragment(None)
    if parsed.explicit_port == 0:  # only parsed here, where it may turn out not to be a number
        raise ValueError("port 0")
    shown = without_query(str(parsed))[:200]
    problem: str | None = None
    if parsed.scheme != "https" and not (allow_http and parsed.scheme == "http"):
        problem = f"{shown} is not an https url"
    elif "@" in parsed.raw_authority:
        problem = f"{shown} has a user name in it"
    elif not parsed.raw_host:
        problem = f"{shown} names no host"
    elif not allow_private:
        problem = _private_host(parsed.raw_host.lower())
    return SignedUrl(parsed), problem


def _private_host(host: str) -> str | None:
    """Return why the name or address is not that of a public host, as far as it tells by itself, or None."""
    name = host.removesuffix(".")
    if ":" in host or _NUMERIC.fullmatch(name):
        return None if is_public(host) else f"{host} is not a public address"
    if not _NAME.fullmatch(name) or name.endswith(_PRIVATE_ZONES):
        return f"{host!r} is not the name of a public host"
    return None
