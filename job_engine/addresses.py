"""Distinguishing public addresses from those of this machine or its private network.

Used before connecting to any host that was named from outside.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final

import psutil

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_OF_THE_CLOUD: Final = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "192.0.0.192")))
"""Addresses that look public, but are services of the cloud for its machines (Azure, Oracle)."""

_SPECIAL: Final = tuple(
    map(ipaddress.ip_network, ("192.88.99.0/24", "64:ff9b:1::/48", "3fff::/20", "fec0::/10"))
)
"""Special ranges that are missing in Python's tables, or in some versions of them."""


def resolve(host: str, port: int) -> list[str]:
    """Return every address of a name, best first. Raises `OSError`.

    Call it once, because the checked address has to be the one that is connected to.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # A label that is empty or too long.
        raise OSError(errno.EINVAL, "no possible name") from error
    return [str(info[4][0]).split("%")[0] for info in found]


def plain_host(host: str) -> str:
    """Return a host in normal form: no brackets, no trailing dot, lower case."""
    return host.strip("[]").rstrip(".").lower()


def split_pair(entry: str) -> tuple[str, int]:
    """Parse an operator's `host:port`. Raises `ValueError`."""
    host, _, port = entry.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{entry!r} is not host:port")
    return plain_host(host), int(port)


def is_public(address: str) -> bool:
    """True for a global unicast address that is none of this machine's own."""
    bare = _unwrap(ipaddress.ip_address(address))
    special = bare.is_multicast or bare.is_reserved or bare.is_unspecified or bare.is_link_local
    special = special or any(bare in network for network in _SPECIAL)
    return bare.is_global and not special and bare not in _OF_THE_CLOUD | _own_addresses()


def _unwrap(address: _Address) -> _Address:
    """Return the IPv4 address inside one of the IPv6 forms that carry one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if inner is None and (address in _NAT64 or address in _V4_COMPATIBLE):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address


def network_of(address: str) -> str:
    """Return an IPv4 address, or the network of an IPv6 address that one customer has."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


def _own_addresses() -> set[_Address]:
    """Return this machine's addresses, a public one included: its services are private."""
    return {
        ipaddress.ip_address(entry.address.split("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    }
