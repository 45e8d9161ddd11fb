"""Which addresses a phase may be connected to: named ones only, and no private range."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

import psutil

from job_engine.errors import SandboxRefusedError
from job_engine.sandbox.base import Reach

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_OF_THE_CLOUD: Final = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "192.0.0.192")))
"""What looks public, and is the cloud's own service for the machine: Azure's, Oracle's."""


class EgressPolicy:
    """Decides for host and port pairs; see `egress` for what must hold."""

    def __init__(self, reach: Iterable[Reach], allow_private_hosts: Iterable[str]) -> None:
        reach = tuple(reach)
        self._reach = {(_plain(item.host), item.port) for item in reach}
        self._private = {_split(entry) for entry in allow_private_hosts}
        self._private |= {(_plain(item.host), item.port) for item in reach if item.trusted}

    def resolve(self, host: str, port: int) -> tuple[str, int]:
        """Return the address to connect to.

        Raises `SandboxRefusedError` when the phase or the operator does not allow it, and
        `OSError` when the name does not resolve.
        """
        pair = (_plain(host), port)
        if pair not in self._reach:
            raise SandboxRefusedError(f"egress to {host}:{port} refused: not named by this phase")
        try:
            found = socket.getaddrinfo(pair[0], port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # A label that is empty or too long.
            raise OSError(errno.EINVAL, "no possible name") from error
        addresses = [str(info[4][0]).split("%")[0] for info in found]
        if pair in self._private:
            return addresses[0], port
        for address in addresses:
            if is_public(address):
                return address, port
        raise SandboxRefusedError(
            f"egress to {host}:{port} refused: a private address; "
            "the operator can name it in allow_private_hosts"
        )


def is_public(address: str) -> bool:
    """True for a global unicast address that is none of this machine's own."""
    bare = _unwrap(ipaddress.ip_address(address))
    special = bare.is_multicast or bare.is_reserved or bare.is_unspecified or bare.is_link_local
    return bare.is_global and not special and bare not in _OF_THE_CLOUD | _own_addresses()


def _unwrap(address: _Address) -> _Address:
    """Return the IPv4 address inside one of the IPv6 forms that carry one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if inner is None and (address in _NAT64 or address in _V4_COMPATIBLE):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address


def _own_addresses() -> set[_Address]:
    """Return this machine's addresses, a public one included: its services are private."""
    return {
        ipaddress.ip_address(entry.address.split("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    }


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _split(entry: str) -> tuple[str, int]:
    host, _, port = entry.rpartition(":")
    if not host or not port.isdigit():
        raise SandboxRefusedError(f"allow_private_hosts: {entry!r} is not host:port")
    return _plain(host), int(port)
