"""Who may do what with which resource: written from the contract, not from the code.

For each type and operation, the roles for which it works; for all others it does not. The
rights are those of docs/cimi.md §4.6, `runner` is an executor that runs a job which
names the resource, and everybody but the first five and the last two has a part in its ACL.
"""

from __future__ import annotations

from typing import Final

Roles = frozenset[str]

STRANGERS: Final = frozenset({"anonymous", "user", "submitter", "teacher", "student"})
RIGHTS: Final = frozenset(
    {
        *("view-meta", "view-data", "view-acl"),
        *("edit-meta", "edit-data", "edit-acl"),
        *("manage", "delete"),
    }
)
SERVICES: Final = frozenset({"executor", "runner", "distributor"})
ROLES: Final = STRANGERS | RIGHTS | SERVICES | {"owner", "member", "admin"}

NOBODY: Final = Roles()
ADMIN: Final = frozenset({"admin"})
PEOPLE: Final = ROLES - SERVICES - {"anonymous"}

_OWNERS: Final = frozenset({"owner", "edit-acl", "admin"})
SEES_META: Final = _OWNERS | (RIGHTS - {"manage"}) | {"member"}
SEES_DATA: Final = _OWNERS | {"view-data", "view-acl", "edit-data", "member"}
SEES_ACL: Final = _OWNERS | {"view-acl", "member"}
EDITS_META: Final = _OWNERS | {"edit-meta", "edit-data"}
EDITS_DATA: Final = _OWNERS | {"edit-data"}
EDITS_ACL: Final = _OWNERS
MANAGES: Final = _OWNERS | {"manage"}
DELETES: Final = _OWNERS | {"delete"}

_FIXED: Final = dict.fromkeys(
    ("edit-meta", "edit-data", "edit-acl", "delete", "bulk-delete", "add"), NOBODY
)
_BY_ACL: Final = {
    "find": SEES_META,
    "read": SEES_META,
    "read-data": SEES_DATA,
    "read-acl": SEES_ACL,
    "edit-meta": EDITS_META,
    "edit-data": EDITS_DATA,
    "edit-acl": EDITS_ACL,
    "delete": DELETES,
    "bulk-delete": NOBODY,
    "add": ADMIN,
}
_TEMPLATE: Final = {"find": ROLES, "read": ROLES, "read-data": ROLES, "read-acl": ROLES, **_FIXED}

EXPECTED: Final[dict[str, dict[str, Roles]]] = {
    "assignment": {
        **_BY_ACL,
        # An executor reads what it grades by.
        "find": SEES_META | {"runner"},
        "read": SEES_META | {"runner"},
        "read-data": SEES_DATA | {"runner"},
        # A version is what it was, for everybody.
        "edit-data": NOBODY,
        "bulk-delete": ADMIN,
        "add": frozenset({"teacher", "admin"}),
    },
    "blob": {
        **_FIXED,
        # An upload has one owner and no ACL that could be changed.
        "find": frozenset({"owner", "admin"}),
        "read": frozenset({"owner", "admin", "runner"}),
        "read-data": frozenset({"owner", "admin", "runner"}),
        "read-acl": frozenset({"owner", "admin", "runner"}),
        "delete": frozenset({"owner", "admin"}),
        "add": PEOPLE,
        "content": frozenset({"owner", "admin", "runner"}),
    },
    "credential": {
        **_BY_ACL,
        # What a key is good for was said when it was made.
        "edit-data": NOBODY,
        "add": PEOPLE,
    },
    "credential-template": _TEMPLATE,
    "event": {
        **_FIXED,
        # Of what was done to a resource: whoever sees the resource's data.
        "find": SEES_DATA,
        "read": SEES_DATA,
        "read-data": SEES_DATA,
        "read-acl": ADMIN,
    },
    "group": _BY_ACL,
    "group-template": _TEMPLATE,
    "job": {
        **_BY_ACL,
        "read": SEES_META | {"runner"},
        "read-data": SEES_DATA | {"runner"},
        "bulk-delete": ADMIN,
        # A student hands in to an assignment, which is tried in test_students.py.
        "add": frozenset({"submitter", "admin"}),
        "cancel": MANAGES,
        "timeout": ADMIN,
        # For an admin, or an edge device that manages the job.
        "get-context": ADMIN,
        # It takes the right to create jobs as well.
        "resubmit": ADMIN,
        "log": SEES_DATA | {"runner"},
    },
    "session": {
        **_BY_ACL,
        # A search finds one's own session, whoever else's one may read.
        "find": NOBODY,
        "edit-meta": NOBODY,
        "edit-data": NOBODY,
        "edit-acl": NOBODY,
        "add": ROLES,
        "get-peers": MANAGES,
        "get-groups": MANAGES,
        "switch-group": MANAGES,
    },
    "session-template": _TEMPLATE,
    "user": {
        **_BY_ACL,
        # What a user may do is for admins to say, also where a user owns their document.
        "edit-data": ADMIN,
        "edit-acl": ADMIN,
        "change-password": MANAGES,
    },
    "user-template": _TEMPLATE,
    "webhook-delivery": {
        **_BY_ACL,
        **_FIXED,
        # A message is what was sent; who manages it may have it sent again.
        "replay": MANAGES,
    },
    "webhook-secret": {
        **_BY_ACL,
        "edit-data": NOBODY,
        "add": frozenset({"submitter", "admin"}),
    },
}

ENGINE: Final[dict[tuple[str, str], Roles]] = {
    ("POST", "claim"): frozenset({"executor", "runner", "admin"}),
    ("POST", "report"): frozenset({"executor", "runner", "admin"}),
    ("PUT", "actions"): frozenset({"executor", "runner", "admin"}),
    ("POST", "token"): frozenset({"executor", "runner", "admin"}),
    ("POST", "cleanup"): frozenset({"executor", "runner", "admin"}),
    ("GET", "feed"): frozenset({"distributor", "admin"}),
    ("POST", "pushed"): frozenset({"distributor", "admin"}),
    ("POST", "cleared"): frozenset({"distributor", "admin"}),
    ("GET", "entries"): frozenset({"distributor", "admin"}),
    ("POST", "incarnation"): frozenset({"distributor", "admin"}),
    ("POST", "schedule"): frozenset({"distributor", "admin"}),
    ("POST", "orphans"): frozenset({"distributor", "admin"}),
    ("POST", "sweep"): frozenset({"distributor", "admin"}),
    ("GET", "shares"): ADMIN,
    ("PUT", "shares"): ADMIN,
    ("GET", "actions"): ROLES - {"anonymous"},
    ("GET", "foreign"): frozenset({"distributor", "admin"}),
    ("POST", "foreign"): frozenset({"distributor", "admin"}),
    ("POST", "cancel-children"): frozenset({"executor", "runner", "admin"}),
    ("POST", "webhooks/take"): frozenset({"executor", "runner", "admin"}),
    ("POST", "webhooks/results"): frozenset({"executor", "runner", "admin"}),
}
"""The services' messages, each by its method and its name."""
