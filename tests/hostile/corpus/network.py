"""A network of the tests' own in which every packet is heard, whatever address it goes to."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from job_engine.sandbox.bubblewrap import syscalls

PORTS: Final = (80, 9999)
DATAGRAM_PORTS: Final = (53, 9999)
ABSTRACT: Final = "\0corpus-ear"
_ALL_PACKETS: Final = 0x0003
_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
_QUIET_S: Final = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def own_network() -> Iterator[None]:
    """Move this thread, and whatever it starts meanwhile, into a network of its own.

    Its only interface is loopback, and every address there is belongs to it: nothing that is
    sent leaves the machine, and a listener on all addresses hears all of it.
    """
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.bring_loopback_up()
        for family in ("-4", "-6"):
            route = ["ip", family, "route", "add", "local", "default", "dev", "lo"]
            subprocess.run(route, check=True)
        yield
    finally:
        assert _libc.setns(before, syscalls.CLONE_NEWNET) == 0, "cannot go back"
        os.close(before)


def can_listen() -> bool:
    """Whether a network can be made here."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


class Ears:
    """Listens on everything a program might reach from inside of the network; `with` ends it.

    Args:
        paths: where to listen on sockets of the file system.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._heard: list[tuple[str, bytes]] = []
        self._known_ports: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._stop, self._stopper = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, name="ears", daemon=True)
        for port in PORTS:
            server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            self._add(server, self._accept)
        for port in DATAGRAM_PORTS:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", port))
            self._add(sock, self._receive)
        for address in (ABSTRACT, *map(str, paths)):
            unix = socket.socket(socket.AF_UNIX)
            unix.bind(address)
            unix.listen()
            if not address.startswith("\0"):
                Path(address).chmod(0o777)
            self._add(unix, self._accept)
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PACKETS))
        self._add(sniffer, self._sniff)
        self._vsock()
        self._selector.register(self._stop, selectors.EVENT_READ, None)

    def __enter__(self) -> Ears:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopper.close()
        self._thread.join(10)
        for sock in [*self._sockets, self._stop]:
            sock.close()
        self._selector.close()

    def expect(self, port: int) -> None:
        """Take connections with this port for the tests' own (a git server's)."""
        self._known_ports.add(port)

    def heard(self) -> list[tuple[str, bytes]]:
        """Return what came, as (by which way, what it said)."""
        with self._lock:
            return list(self._heard)

    def heard_of(self, name: str) -> list[str]:
        """Return by which ways something came that said this name."""
        return [way for way, greeting in self.heard() if name.encode() in greeting]

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._heard.clear()

    def _vsock(self) -> None:
        # One stock of addresses for the machine, whatever the network: somebody may be there.
        with contextlib.suppress(OSError):
            sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            try:
                sock.bind((socket.VMADDR_CID_ANY, PORTS[-1]))
                sock.listen()
            except OSError:
                sock.close()
                raise
            self._add(sock, self._accept)

    def _add(self, sock: socket.socket, hear: Callable[[socket.socket], None]) -> None:
        sock.setblocking(False)
        self._sockets.append(sock)
        self._selector.register(sock, selectors.EVENT_READ, hear)

    def _listen(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)

    def _note(self, way: str, greeting: bytes) -> None:
        with self._lock:
            self._heard.append((way, greeting))

    def _accept(self, server: socket.socket) -> None:
        stream, _ = server.accept()
        with stream:
            stream.settimeout(_QUIET_S)
            greeting = b""
            with contextlib.suppress(OSError):
                greeting = stream.recv(200)
        self._note(f"stream {server.getsockname()!r}", greeting)

    def _receive(self, sock: socket.socket) -> None:
        self._note(f"datagram {sock.getsockname()!r}", sock.recv(200))

    def _sniff(self, sock: socket.socket) -> None:
        packet, address = sock.recvfrom(200)
        if _ports(packet, address[1]) & self._known_ports:
            return
        self._note(f"packet of protocol {_protocol(packet, address[1])}", packet)


def _protocol(packet: bytes, family: int) -> int:
    if family == _IPV4:
        return packet[9]
    return packet[6] if family == _IPV6 else -1


def _ports(packet: bytes, family: int) -> set[int]:
    if family not in (_IPV4, _IPV6) or _protocol(packet, family) != socket.IPPROTO_TCP:
        return set()
    start = (packet[0] & 15) * 4 if family == _IPV4 else 40
    return set(struct.unpack_from("!HH", packet, start))
