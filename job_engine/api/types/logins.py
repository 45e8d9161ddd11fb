"""Ways to log in, and to act as a group (docs/cimi.md §4.3).

A secret is verified first, which is slow. Then the transaction that stores the session reads
the user, key or group again, because it may have been removed in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from sqlalchemy import Connection

from job_engine.api.audit import line
from job_engine.api.auth.sessions import Grounds, roles
from job_engine.api.call import Call
from job_engine.api.identity import EVERYBODY
from job_engine.api.types.base import refuse
from job_engine.api.types.group import groups_of
from job_engine.api.types.stored import text_of
from job_engine.errors import ForbiddenError, NotFoundError
from job_engine.model.acl import ADMIN, ANON, USER
from job_engine.model.timestamps import parse_ms
from job_engine.store.base import Document
from job_engine.store.resources import Resource, find_all, hold, load_resource
from job_engine.store.tables import resources

Establish = Callable[[Connection], Grounds]


@dataclass(frozen=True)
class Login:
    """A way to log in."""

    method: str
    fields: frozenset[str]
    """Attributes of its template, beside `href`."""
    verify: Callable[[Call, Document], Establish]
    """Verifies the secret; raises `ForbiddenError` and `TooManyLoginsError`."""


def _verify_password(call: Call, template: Document) -> Establish:
    username = text_of(template, "username")
    call.services.limiter.check(username, call.address)
    user = call.services.store.resources.find("user", username)
    secret = user.secret if user is not None and _is_active(user) else None
    right = call.services.passwords.verify(secret, text_of(template, "password"))
    if not right or user is None:
        _failed(call, username, None if user is None else user.id, "password")
    call.services.limiter.succeeded(username, call.address)
    verified = user

    def establish(connection: Connection) -> Grounds:
        found = _still_there(connection, verified, username)
        if not _is_active(found):
            raise refuse(username)
        claims = _claims_of_user(connection, found)
        return Grounds(found.id, claims, "password", details={"identifier": username})

    return establish


def _verify_key(call: Call, template: Document) -> Establish:
    key = text_of(template, "key")
    credential_id = key if key.startswith("credential/") else f"credential/{key}"
    call.services.limiter.check(credential_id, call.address)
    credential = _find_key(call, credential_id)
    secret = None if credential is None or not _is_valid(call, credential) else credential.secret
    right = call.services.keys.verify(secret, text_of(template, "secret"))
    if not right or credential is None:
        _failed(call, credential_id, None if credential is None else credential.id, "api-key")
    call.services.limiter.succeeded(credential_id, call.address)
    verified = credential

    def establish(connection: Connection) -> Grounds:
        identity = verified.document["claims"]["identity"]
        hold(connection, [identity])
        found = _still_there(connection, verified, credential_id)
        # A former member who created the group's key knows its secret.
        made_by = found.document.get("created-by") or identity
        holder = made_by if identity.startswith("group/") else identity
        if not _may_log_in(connection, holder):
            raise refuse(credential_id)
        expiry = found.document.get("expiry")
        return Grounds(
            identity,
            _claims_of_key(found),
            "api-key",
            None if expiry is None else parse_ms(expiry),
            {"identifier": identity, "credential": credential_id},
        )

    return establish


LOGINS: Final[Mapping[str, Login]] = {
    f"session-template/{login.method}": login
    for login in (
        Login("password", frozenset({"username", "password"}), _verify_password),
        Login("api-key", frozenset({"key", "secret"}), _verify_key),
    )
}


# --- acting as a group -----------------------------------------------------------


def switched(connection: Connection, session: Resource, claim: str) -> Resource:
    """Return the session acting as a claim. Raises `ForbiddenError` if it may not."""
    document = session.document
    all_claims = claims_of(connection, document)
    if claim == document["user"]:
        claims = all_claims
    elif claim in {group["id"] for group in open_to(connection, document)}:
        claims = [claim, *EVERYBODY.intersection(all_claims)]
    else:
        raise ForbiddenError(f"Switch group cannot be done to requested group: {claim}!")
    after = {**document, "active-claim": claim, "roles": roles(session.id, claims)}
    return Resource(after, session.secret, session.key, session.expires_ms)


def open_to(connection: Connection, session: Document) -> Sequence[Document]:
    """Return the groups that a session may act as: the user's own, or all for an admin."""
    own = set(claims_of(connection, session)) - EVERYBODY
    found = find_all(connection, resources.c.type == "group")
    groups = sorted((group.document for group in found), key=lambda group: str(group["id"]))
    return [g for g in groups if g["id"] not in EVERYBODY and (ADMIN in own or g["id"] in own)]


def peers_of(call: Call, session: Document) -> dict[str, str]:
    """Return the names of users who share a group with the session's user, by id."""

    def unit(connection: Connection) -> dict[str, str]:
        members = {user for group in open_to(connection, session) for user in group["users"]}
        ids = sorted(members - {session["user"]})
        found = find_all(connection, resources.c.id.in_(ids))
        return {user.id: str(user.document.get("name", user.id)) for user in found}

    return call.services.store.database.read(unit)


def claims_of(connection: Connection, session: Document) -> Sequence[str]:
    """Return the claims that the session's user or key has now.

    Raises `ForbiddenError` if the user or key is gone.
    """
    try:
        if "credential" in session:
            return _claims_of_key(load_resource(connection, session["credential"]))
        return _claims_of_user(connection, load_resource(connection, session["user"]))
    except NotFoundError:
        raise refuse(session["id"]) from None


# --- users and keys --------------------------------------------------------------


def _claims_of_user(connection: Connection, user: Resource) -> Sequence[str]:
    groups = [group.id for group in groups_of(connection, user.id)]
    return sorted({user.id, USER, ANON, *user.document["roles"], *groups})


def _claims_of_key(key: Resource) -> Sequence[str]:
    claims = key.document["claims"]
    return claims["roles"] or [claims["identity"], USER, ANON]


def _still_there(connection: Connection, verified: Resource, name: str) -> Resource:
    """Return the verified user or key as stored now. Raises `ForbiddenError` if it changed."""
    try:
        found = load_resource(connection, verified.id, lock=True)
    except NotFoundError:
        raise refuse(name) from None
    if found.secret != verified.secret:
        raise refuse(name)
    return found


def _is_active(user: Resource) -> bool:
    return bool(user.document["state"] == "ACTIVE")


def _may_log_in(connection: Connection, identity: str) -> bool:
    """Return whether a key's identity is not a stored user, or one who is not suspended."""
    if not identity.startswith("user/"):
        return True
    try:
        return _is_active(load_resource(connection, identity))
    except NotFoundError:  # a user of a trusted proxy; deleting a stored user deletes its keys
        return True


def _find_key(call: Call, credential_id: str) -> Resource | None:
    try:
        return call.services.store.resources.load(credential_id)
    except NotFoundError:
        return None


def _is_valid(call: Call, credential: Resource) -> bool:
    document = credential.document
    expiry = document.get("expiry")
    if document.get("subtype") != "api-key":
        return False
    return expiry is None or parse_ms(expiry) > call.services.store.clock()


def _failed(call: Call, name: str, known: str | None, method: str) -> NoReturn:
    """Count a failed login, record it in the audit trail, and refuse it."""
    call.services.limiter.failed(name, call.address)
    call.services.store.audit.record(
        line(call, "add", known, success=False, method=method, address=call.address)
    )
    raise refuse(name)
