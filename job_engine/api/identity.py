"""The identity of a caller: claims from a session or, for trusted peers, from a header.

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
"""May create jobs, and manages them."""
STUDENT: Final = "group/job-student"
"""May hand in their own work, and reads what came of it (`jobs/handing_in.py`)."""
TEACHER: Final = "group/job-teacher"
"""May publish assignments."""
EXECUTOR: Final = "group/job-executor"
"""May claim jobs, report on them, and read what the jobs that it runs refer to."""
DISTRIBUTOR: Final = "group/job-distributor"
"""May push jobs, and create scheduled ones."""

NUVLABOX: Final = "group/nuvla-nuvlabox"
"""Nuvla's edge devices, which make keys for themselves."""
SERVICES: Final = frozenset({EXECUTOR, DISTRIBUTOR})
"""Roles of services. A caller with no other role is not a user, and sees only what it needs."""
EVERYBODY: Final = frozenset({USER, ANON})
"""Groups that everybody is in without being a member."""

STRANGER: Final = "stranger"
"""Key in a request's state: whether the caller has not logged in."""
AUTHN_HEADER: Final = "nuvla-authn-info"


@dataclass(frozen=True)
class Identity:
    """A caller: their user id, and the claims (groups and users) that they may act as."""

    user_id: str | None = None
    active_claim: str = ANON
    claims: frozenset[str] = frozenset({ANON})
    session: str | None = None

    def __contains__(self, claim: str) -> bool:
        """Return whether the caller has a claim; admins have every claim."""
        return claim in self.claims or ADMIN in self.claims

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return ADMIN in self.claims

    @property
    def is_user(self) -> bool:
        """Whether the caller has logged in and is not one of the engine's services."""
        return self.is_admin or USER in self.claims

    @property
    def creator(self) -> str:
        """The value of `created-by` in what the caller creates."""
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
    """Return the identity of a session."""
    return Identity(user_id, active_claim, frozenset({*claims, ANON, session}), session)


class Peers:
    """A set of addresses and networks, such as `127.0.0.1` and `10.1.0.0/16`.

    `setting` is where they are named. Raises `ConfigurationError` for what is neither.
    """

    def __init__(self, names: Iterable[str], setting: str = "trusted_peers") -> None:
        try:
            self._networks = [ipaddress.ip_network(name) for name in names]
        except ValueError as error:
            raise ConfigurationError(f"{setting}: {error}") from error

    def __contains__(self, address: str) -> bool:
        """Whether a caller's address is one of them."""
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:  # a Unix socket has no address
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)
