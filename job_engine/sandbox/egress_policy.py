"""Which addresses a phase may be connected to: named ones only, and no private range."""

from __future__ import annotations

from collections.abc import Iterable

from job_engine.addresses import is_public, plain_host, resolve, split_pair
from job_engine.errors import SandboxRefusedError
from job_engine.sandbox.base import Reach


class EgressPolicy:
    """Decides for host and port pairs; see `egress` for what must hold."""

    def __init__(self, reach: Iterable[Reach], allow_private_hosts: Iterable[str]) -> None:
        reach = tuple(reach)
        self._reach = {(plain_host(item.host), item.port) for item in reach}
        self._private = {_split(entry) for entry in allow_private_hosts}
        self._private |= {(plain_host(item.host), item.port) for item in reach if item.trusted}

    def resolve(self, host: str, port: int) -> tuple[str, int]:
        """Return the address to connect to.

        Raises `SandboxRefusedError` when the phase or the operator does not allow it, and
        `OSError` when the name does not resolve.
        """
        pair = (plain_host(host), port)
        if pair not in self._reach:
            raise SandboxRefusedError(f"egress to {host}:{port} refused: not named by this phase")
        addresses = resolve(*pair)
        if pair in self._private:
            return addresses[0], port
        for address in addresses:
            if is_public(address):
                return address, port
        raise SandboxRefusedError(
            f"egress to {host}:{port} refused: a private address; "
            "the operator can name it in allow_private_hosts"
        )


def _split(entry: str) -> tuple[str, int]:
    try:
        return split_pair(entry)
    except ValueError as error:
        raise SandboxRefusedError(f"allow_private_hosts: {error}") from error
