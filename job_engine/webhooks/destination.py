"""Checking destinations of messages: their URLs and addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from job_engine.addresses import is_public, plain_host, resolve, split_pair
from job_engine.errors import ConfigurationError, DestinationRefusedError

MAX_URL: Final = 2048
"""Characters of a URL."""
_PRINTABLE: Final = re.compile(r"[!-~]+")
_HOST: Final = re.compile(
    r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*|[0-9a-f:.]+"
)
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Destination:
    """A parsed URL."""

    scheme: str
    host: str
    """Normalised: no brackets, lower case."""
    port: int
    path: str
    """With the query."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take a URL apart. Raises `ValueError`, saying what is wrong with it."""
        if len(url) > MAX_URL or not _PRINTABLE.fullmatch(url):
            raise ValueError(f"must be 1 to {MAX_URL} printable ASCII characters, without blanks")
        parts = urlsplit(url)  # a bad port raises ValueError below, a bad bracket here
        port = parts.port
        if parts.scheme not in _PORTS:
            raise ValueError("must begin with https:// (or http://, where the operator allows it)")
        if "@" in parts.netloc:
            raise ValueError("must not have a user or a password; the secret is for that")
        host = plain_host(parts.hostname or "")
        if not _HOST.fullmatch(host):
            raise ValueError("must name a host, as lms.example.org")
        if "#" in url:
            raise ValueError("must not have a fragment")
        if port == 0:
            raise ValueError("must not name port 0")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], path)

    @property
    def tls(self) -> bool:
        """Whether it is encrypted."""
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class DestinationPolicy:
    """Which destinations the operator allows.

    Args:
        allow_http: whether a message may go unencrypted.
        allow_private_hosts: `host:port` pairs that may be private, or this machine itself.

    Raises `ConfigurationError` for a malformed pair.
    """

    def __init__(self, *, allow_http: bool, allow_private_hosts: Iterable[str] = ()) -> None:
        self._allow_http = allow_http
        try:
            self._private = frozenset(map(split_pair, allow_private_hosts))
        except ValueError as error:
            raise ConfigurationError(f"webhook_private_hosts: {error}") from error

    def check_scheme(self, destination: Destination) -> None:
        """Raise `DestinationRefusedError` for one that may not be used unencrypted."""
        if not destination.tls and not self._allow_http:
            raise DestinationRefusedError(
                "Plain http is refused: use https, or ask the operator to set webhook_allow_http."
            )

    def addresses(self, destination: Destination) -> list[str]:
        """Return the addresses to connect to, best first, each of them allowed.

        A name with any address that is not allowed is refused: a mixture of public and private
        addresses is suspicious. Raises `DestinationRefusedError`, and `OSError`
        for a name that does not resolve.
        """
        self.check_scheme(destination)
        found = resolve(destination.host, destination.port)
        if (destination.host, destination.port) not in self._private:
            private = [address for address in found if not is_public(address)]
            if private:
                raise DestinationRefusedError(
                    f"{destination} is refused: it leads to a private or special address. "
                    "The operator can name it in webhook_private_hosts."
                )
        return found
