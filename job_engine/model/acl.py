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
"""Has every right everywhere."""
USER: Final = "group/nuvla-user"
"""Everybody who logged in."""
ANON: Final = "group/nuvla-anon"
"""Everybody."""

PRINCIPAL: Final = re.compile(r"[a-z-]+/[a-z0-9-]+")


class Right(IntFlag):
    """What one may do with a document; stored as a bit set."""

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
"""Who has one of these on a job sees all of its verdict; who only reads it, what students see."""

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
"""Most principals in one list of an ACL: whoever needs more, needs a group."""

_REMEMBERED_BYTES: Final = 4096
"""Size, as JSON, up to which an ACL is remembered."""

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
    """Return a list of an ACL with one more; what else is in it was not checked yet."""
    return principals if principal in principals else [*principals, principal]


def once_for_each(work: Callable[[AnyAcl], T]) -> Callable[[AnyAcl], T]:
    """Remember what a pure function of an ACL returned: most resources have that of others.

    What it returns has to be immutable. Long ACLs are not remembered, or they would fill
    the memory.
    """
    remembered = lru_cache(maxsize=1024)(lambda written: work(orjson.loads(written)))

    @wraps(work)
    def look_up(acl: AnyAcl) -> T:
        written = orjson.dumps({**acl})  # sooner done than a tuple of its lists
        return remembered(written) if len(written) <= _REMEMBERED_BYTES else work(acl)

    return look_up


@once_for_each
def rights_by_principal(acl: AnyAcl) -> Mapping[str, Right]:
    """Return what a normalised ACL gives to each principal it names."""
    rights = dict.fromkeys(acl.get("owners", ()), ALL_RIGHTS)
    for key, right in _LISTS.items():
        for principal in acl.get(key, ()):
            rights[principal] = rights.get(principal, Right(0)) | right
    return MappingProxyType(rights)


def rights_of(acl: AnyAcl, claims: Iterable[str]) -> Right:
    """Return what somebody with these claims may do under a normalised ACL."""
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
