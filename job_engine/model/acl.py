"""Access control lists of CIMI documents: their normal form, and the rights they give.

Rules and names are those of the CIMI contract (docs/cimi.md §4.6).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntFlag
from functools import lru_cache, wraps
from types import MappingProxyType
from typing import Any, Final, TypeVar

import orjson

from job_engine.errors import InvalidResourceError

ADMIN: Final = "group/nuvla-admin"
"""Group of administrators, who have every right on every document."""
USER: Final = "group/nuvla-user"
"""Group of all callers that have logged in."""
ANON: Final = "group/nuvla-anon"
"""Group of all callers, with and without a login."""

PRINCIPAL: Final = re.compile(r"[a-z-]+/[a-z0-9-]+")


class Right(IntFlag):
    """A right on a document; sets of rights are stored as a number."""

    VIEW_META = 1
    VIEW_DATA = 2
    VIEW_ACL = 4
    EDIT_META = 8
    EDIT_DATA = 16
    EDIT_ACL = 32
    MANAGE = 64
    DELETE = 128


ALL_RIGHTS: Final = Right(255)
VIEW: Final = Right.VIEW_META | Right.VIEW_DATA | Right.VIEW_ACL
EDIT: Final = Right.EDIT_META | Right.EDIT_DATA | Right.EDIT_ACL
STAFF: Final = Right.MANAGE | Right.EDIT_DATA
"""Rights on a job of which one makes a caller staff, who see all of its verdict."""

_LISTS: Final = {
    "edit-acl": Right.EDIT_ACL,
    "edit-data": Right.EDIT_DATA,
    "edit-meta": Right.EDIT_META,
    "view-acl": Right.VIEW_ACL,
    "view-data": Right.VIEW_DATA,
    "view-meta": Right.VIEW_META,
    "manage": Right.MANAGE,
    "delete": Right.DELETE,
}

_IMPLIED: Final = {
    Right.EDIT_ACL: ALL_RIGHTS,
    Right.EDIT_DATA: Right.EDIT_DATA | Right.EDIT_META | Right.VIEW_DATA | Right.VIEW_META,
    Right.EDIT_META: Right.EDIT_META | Right.VIEW_META,
    Right.DELETE: Right.DELETE | Right.VIEW_META,
    Right.VIEW_ACL: VIEW,
    Right.VIEW_DATA: Right.VIEW_DATA | Right.VIEW_META,
}

METADATA: Final = frozenset(
    {
        "id",
        "resource-type",
        "created",
        "updated",
        "name",
        "description",
        "tags",
        "subtype",
        "parent",
        "resource-metadata",
        "operations",
    }
)
"""The attributes that view-meta shows and edit-meta edits."""

MAX_PRINCIPALS: Final = 1000
"""Most principals in one list of an ACL; for more, make a group."""

_REMEMBERED_BYTES: Final = 4096
"""Largest ACL, in bytes of JSON, whose results are cached."""

T = TypeVar("T")
Acl = dict[str, list[str]]
AnyAcl = Mapping[str, Sequence[str]]
"""One that is only read."""


def normalise(acl: Any) -> Acl:
    """Return `acl` with implied rights written out, admins added, lists sorted.

    Raises `InvalidResourceError` for an unknown key, a value that is no list of
    distinct principals, or an ACL without owners.
    """
    if not isinstance(acl, dict) or not acl.get("owners"):
        raise InvalidResourceError("acl: must be an object with at least one principal in `owners`")
    unknown = acl.keys() - _LISTS.keys() - {"owners"}
    if unknown:
        raise InvalidResourceError(f"acl: unknown key {min(unknown)!r}")
    for key, principals in acl.items():
        _check_principals(key, principals)
    rights = _spread(acl)
    owners = set(acl["owners"])
    written: Acl = {"owners": sorted(owners)}
    for key, right in _LISTS.items():
        held = sorted(p for p, given in rights.items() if right in given and p not in owners)
        if held:
            written[key] = held
    return written


def with_principal(principals: list[Any], principal: str) -> list[Any]:
    """Return a list of an ACL with one more principal; the others are not validated here."""
    return principals if principal in principals else [*principals, principal]


def cached_by_acl(work: Callable[[AnyAcl], T]) -> Callable[[AnyAcl], T]:
    """Cache a pure function of an ACL, because most resources share their ACL with others.

    Results have to be immutable. Long ACLs are not cached, to bound the memory.
    """
    remembered = lru_cache(maxsize=1024)(lambda written: work(orjson.loads(written)))

    @wraps(work)
    def look_up(acl: AnyAcl) -> T:
        written = orjson.dumps({**acl})  # faster than a tuple of its lists
        return remembered(written) if len(written) <= _REMEMBERED_BYTES else work(acl)

    return look_up


@cached_by_acl
def rights_by_principal(acl: AnyAcl) -> Mapping[str, Right]:
    """Return the rights that a normalised ACL gives to each principal."""
    rights = dict.fromkeys(acl.get("owners", ()), ALL_RIGHTS)
    for key, right in _LISTS.items():
        for principal in acl.get(key, ()):
            rights[principal] = rights.get(principal, Right(0)) | right
    return MappingProxyType(rights)


def rights_of(acl: AnyAcl, claims: Iterable[str]) -> Right:
    """Return the rights that a normalised ACL gives to a caller with these claims."""
    held = set(claims)
    if ADMIN in held:
        return ALL_RIGHTS
    total = Right(0)
    for principal, right in rights_by_principal(acl).items():
        if principal in held:
            total |= right
    return total


def _spread(acl: AnyAcl) -> dict[str, Right]:
    rights: dict[str, Right] = {ADMIN: ALL_RIGHTS}
    for key, right in _LISTS.items():
        for principal in acl.get(key, ()):
            implied = _IMPLIED.get(right, right)
            rights[principal] = rights.get(principal, Right(0)) | implied
    return rights


def _check_principals(key: str, principals: Any) -> None:
    if isinstance(principals, list) and len(principals) > MAX_PRINCIPALS:
        raise InvalidResourceError(
            f"acl: `{key}` has more than {MAX_PRINCIPALS} principals; name a group"
        )
    if not isinstance(principals, list) or len(set(map(str, principals))) != len(principals):
        raise InvalidResourceError(f"acl: `{key}` must be a list of distinct principals")
    for principal in principals:
        if not isinstance(principal, str) or not PRINCIPAL.fullmatch(principal):
            raise InvalidResourceError(
                f"acl: {principal!r} in `{key}` is no principal, as user/jane"
            )
