"""Revocation: ends sessions and keys in the transaction that removes what they depend on.

A session depends on a user, on the API key that it was opened with, and on the groups among
its claims; a key depends on its identity and its groups. A key that a user created while
acting as a group ends with that user's membership, because the user knows its secret.
Sessions are deleted before keys: creating a key locks the session in which it is created.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, and_, or_

from job_engine.store.resources import Resource, delete_resources, find_all, hold
from job_engine.store.tables import resources

_document = resources.c.document


def end_sessions(connection: Connection, user: str) -> None:
    """End every session of a user, and those of keys that the user made for a group."""
    delete_resources(connection, _sessions(_document["user"].as_string() == user))
    for key in find_all(connection, _keys_of(user)):
        revoke_key(connection, key.id)


def revoke_key(connection: Connection, credential: str) -> None:
    """End the sessions that were opened with a key which is deleted."""
    opened = _document["credential"].as_string() == credential
    delete_resources(connection, _sessions(opened))


def revoke_user(connection: Connection, user: str) -> None:
    """End the sessions and keys of a user who is deleted."""
    end_sessions(connection, user)
    _delete_keys(connection, find_all(connection, _keys_of(user)))


def revoke_groups(connection: Connection, user: str, groups: Collection[str]) -> None:
    """End sessions and keys that a user has through groups that they have left."""
    hold(connection, [user])
    end_sessions(connection, user)
    found = find_all(connection, _keys_of(user))
    _delete_keys(connection, [key for key in found if _has(key, groups)])


def revoke_group(connection: Connection, group: str) -> None:
    """End all sessions and keys that depend on a group which is deleted."""
    for session in find_all(connection, _sessions()):
        if group in session.document["roles"].split():
            delete_resources(connection, resources.c.id == session.id)
    keys = find_all(connection, resources.c.type == "credential")
    _delete_keys(connection, [key for key in keys if _has(key, {group})])


def _sessions(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(resources.c.type == "session", *conditions)


def _keys_of(user: str) -> ColumnElement[bool]:
    """Select the keys of a user, and those that the user created for a group."""
    identity = _document[("claims", "identity")].as_string()
    made = and_(_document["created-by"].as_string() == user, identity.startswith("group/"))
    return and_(resources.c.type == "credential", or_(identity == user, made))


def _has(key: Resource, groups: Collection[str]) -> bool:
    return not set(groups).isdisjoint(key.document["claims"]["roles"])


def _delete_keys(connection: Connection, keys: Collection[Resource]) -> None:
    for key in keys:
        delete_resources(connection, resources.c.id == key.id)
        revoke_key(connection, key.id)
