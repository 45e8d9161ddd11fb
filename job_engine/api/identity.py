"""Who sends a request: claims from a session or, for trusted peers, from a header.

Rules of docs/cimi.md §4.1. A bad or expired cookie makes the caller anonymous.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from job_engine.errors import ConfigurationError
from job_engine.model.acl import ADMIN, ANON, USER

SUBMITTER: Final = "group/job-submitter"
"""May create jobs."""
TEACHER: Final = "group/job-teacher"
"""May publish assignments."""
EXECUTOR: Final = "group/job-executor"
"""May claim jobs and report on them, and read what those that it runs refer to."""
DISTRIBUTOR: Final = "group/job-distributor"
"""May push jobs, and create those that are scheduled."""

NUVLABOX: Final = "group/nuvla-nuvlabox"
"""Nuvla's edge devices, which make keys for themselves."""
SERVICES: Final = frozenset({EXECUTOR, DISTRIBUTOR})
"""Roles of programs: one that has no other role is nobody's user, and sees what it needs."""
EVERYBODY: Final = frozenset({USER, ANON})
"""Groups that nobody has to be a member of."""

STRANGER: Final = "stranger"
"""Where a request's state says whether nobody has logged in for it."""
AUTHN_HEADER: Final = "nuvla-authn-info"


@dataclass(frozen=True)
class Identity:
    """Who somebody is, and all that they may act as."""

    user_id: str | None = None
    active_claim: str = ANON
    claims: frozenset[str] = frozenset({ANON})
    session: str | None = None

    def __contains__(self, claim: str) -> bool:
        """Whether this is one of the claims; an admin has every one."""
        return claim in self.claims or ADMIN in self.claims

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return ADMIN in self.claims

    @property
    def is_user(self) -> bool:
        """Whether this is somebody who logged in, and no service of the engine's own."""
        return self.is_admin or USER in self.claims

    @property
    def creator(self) -> str:
        """What `created-by` says of what they create."""
        return self.user_id or ANON


ANONYMOUS: Final = Identity()


def from_header(text: str) -> Identity:
    """Read `<user-id> <active-claim> <claim>…`; the second term is no claim by itself."""
    terms = text.split()
    if not terms:
        return ANONYMOUS
    active = terms[1] if len(terms) > 1 else terms[0]
    session = next((term for term in terms[1:] if term.startswith("session/")), None)
    return Identity(terms[0], active, frozenset({terms[0], ANON, *terms[2:]}), session)


def of_session(user_id: str, active_claim: str, claims: Iterable[str], session: str) -> Identity:
    """Make the identity that a session stands for."""
    return Identity(user_id, active_claim, frozenset({*claims, ANON, session}), session)


class Peers:
    """Addresses and networks, such as `127.0.0.1` and `10.1.0.0/16`, to find callers among.

    Raises `ConfigurationError` for what is neither.
    """

    def __init__(self, names: Iterable[str]) -> None:
        try:
            self._networks = [ipaddress.ip_network(name) for name in names]
        except ValueError as error:
            raise ConfigurationError(f"trusted_peers: {error}") from error

    def __contains__(self, address: str) -> bool:
        """Whether a caller's address is one of them."""
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:  # a socket file has none
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)
