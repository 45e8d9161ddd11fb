"""What is taken away is gone with the next request: keys, sessions, users, groups, passwords."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from job_engine.api.auth.secrets import Hasher, Keys
from job_engine.api.auth.sessions import Sessions
from tests.unit.api.people import (
    PASSWORD,
    add_group,
    add_key,
    add_user,
    browsing,
    is_in,
    log_in,
    log_in_as,
    ok,
)
from tests.unit.api.support import ADMIN, ANON, JANE, Client, Running, refused

SUBMITTER = "group/job-submitter"


@pytest.fixture
def one(server: Running) -> Iterator[Client]:
    """Somebody's client."""
    with browsing(server) as client:
        yield client


@pytest.fixture
def other(server: Running) -> Iterator[Client]:
    """A second client of the same user's."""
    with browsing(server) as client:
        yield client


def taking_the_key(api: Client, _user: str, key: str, _group: str) -> None:
    ok(api(ADMIN, "DELETE", key))


def taking_the_user(api: Client, user: str, _key: str, _group: str) -> None:
    ok(api(ADMIN, "DELETE", user))


def suspending_the_user(api: Client, user: str, _key: str, _group: str) -> None:
    ok(api(ADMIN, "PUT", user, {"state": "SUSPENDED"}))


def taking_a_role(api: Client, user: str, _key: str, _group: str) -> None:
    ok(api(ADMIN, "PUT", user, {"roles": []}))


def taking_the_membership(api: Client, _user: str, _key: str, group: str) -> None:
    ok(api(ADMIN, "PUT", group, {"users": []}))


def taking_the_group(api: Client, _user: str, _key: str, group: str) -> None:
    ok(api(ADMIN, "DELETE", group))


def setting_a_password(api: Client, user: str, _key: str, _group: str) -> None:
    ok(api(ADMIN, "PUT", user, {"password": "another one"}))


Takes = Callable[[Client, str, str, str], None]


@pytest.mark.parametrize(
    ("take", "password_ends", "key_ends", "key_is_gone"),
    [
        (taking_the_key, False, True, True),
        (taking_the_user, True, True, True),
        (suspending_the_user, True, True, True),
        (taking_a_role, True, True, True),
        (taking_the_membership, True, True, True),
        (taking_the_group, True, True, True),
        (setting_a_password, True, True, False),
    ],
)
def test_sessions_end_with_what_they_rest_on(
    api: Client,
    one: Client,
    other: Client,
    take: Takes,
    password_ends: bool,
    key_ends: bool,
    key_is_gone: bool,
) -> None:
    user = add_user(api, SUBMITTER)
    group = add_group(api, user)
    log_in_as(one, user)
    key = add_key(one)
    log_in(other, "api-key", **key)
    assert is_in(one)
    assert is_in(other)
    take(api, user, key["key"], group)
    assert is_in(one) is not password_ends
    assert is_in(other) is not key_ends
    body = {"template": {"href": "session-template/api-key", **key}}
    assert (other(ANON, "POST", "session", body).status_code == 403) is key_is_gone


def test_a_key_with_other_groups_outlives_a_membership(api: Client, one: Client) -> None:
    user = add_user(api, SUBMITTER)
    group = add_group(api, user)
    log_in_as(one, user)
    key = add_key(one, roles=[SUBMITTER])
    ok(api(ADMIN, "PUT", group, {"users": []}))
    log_in(one, "api-key", **key)


def test_a_key_of_a_group_goes_with_its_makers_membership(
    api: Client, one: Client, other: Client
) -> None:
    """Who made it knows its secret, also when it does not say who they are."""
    user = add_user(api)
    group = add_group(api, user)
    session = log_in_as(one, user)
    ok(one(ANON, "POST", f"{session}/switch-group", {"claim": group}))
    key = add_key(one)
    log_in(other, "api-key", **key)
    assert api.get(key["key"])["claims"]["identity"] == group
    ok(api(ADMIN, "PUT", group, {"users": []}))
    assert not is_in(other)
    refused(api(ADMIN, "GET", key["key"]), 404, "not found")


def test_a_key_made_for_a_group_ends_when_its_maker_is_suspended(
    api: Client, one: Client, other: Client
) -> None:
    user = add_user(api)
    session = log_in_as(one, user)
    ok(one(ANON, "POST", f"{session}/switch-group", {"claim": add_group(api, user)}))
    key = add_key(one)
    log_in(other, "api-key", **key)
    ok(api(ADMIN, "PUT", user, {"state": "SUSPENDED"}))
    assert not is_in(other)
    template = {"href": "session-template/api-key", **key}
    refused(other(ANON, "POST", "session", {"template": template}), 403, "invalid credentials")


def test_changing_ones_password(api: Client, one: Client, other: Client) -> None:
    user = add_user(api)
    for client in (one, other):
        log_in_as(client, user)
    path, new = f"{user}/change-password", {"new-password": "another one"}
    for current, status in (({}, 403), ({"current-password": "wrong"}, 403)):
        refused(one(ANON, "POST", path, {**new, **current}), status, "invalid credentials")
    short = {"current-password": PASSWORD, "new-password": "short"}
    refused(one(ANON, "POST", path, short), 400, "new-password: must have 8 to 1000 characters")
    refused(one(ANON, "POST", path, {"current-password": 1}), 400, "\ncurrent-password: must be")
    refused(api(JANE, "POST", path, {"current-password": PASSWORD, **new}), 403, "invalid")
    refused(one(ANON, "GET", path), 405, "invalid method")
    ok(one(ANON, "POST", path, {"current-password": PASSWORD, **new}))
    assert not is_in(one)
    assert not is_in(other)
    name = api.get(user)["username"]
    old = {"href": "session-template/password", "username": name, "password": PASSWORD}
    refused(one(ANON, "POST", "session", {"template": old}), 403, "invalid credentials")
    log_in_as(one, user, "another one")


def test_a_login_that_is_under_way_does_not_slip_past(
    api: Client, one: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is verified, and changed before the session is stored."""
    user = add_user(api)
    verify = Hasher.verify
    verified, changed = threading.Event(), threading.Event()

    def slow(hasher: Hasher, stored: str | None, secret: str) -> bool:
        right = verify(hasher, stored, secret)
        verified.set()
        assert changed.wait(30)
        return right

    monkeypatch.setattr(Hasher, "verify", slow)
    name = api.get(user)["username"]
    template = {"href": "session-template/password", "username": name, "password": PASSWORD}
    statuses: list[int] = []

    def log_in_slowly() -> None:
        statuses.append(one(ANON, "POST", "session", {"template": template}).status_code)

    thread = threading.Thread(target=log_in_slowly)
    thread.start()
    assert verified.wait(30)
    ok(api(ADMIN, "PUT", user, {"password": "another one"}))
    changed.set()
    thread.join()
    assert statuses == [403]
    assert not one.http.cookies


def test_a_look_up_that_is_under_way_is_not_remembered(
    api: Client, one: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is read, and deleted before what was read is remembered."""
    session = log_in_as(one, add_user(api))
    sessions = api.services.sessions
    sessions.changed()
    look_up = Sessions._look_up

    def slow(self: Sessions, session_id: str) -> object:
        found = look_up(self, session_id)
        monkeypatch.setattr(Sessions, "_look_up", look_up)
        ok(api(ADMIN, "DELETE", session))
        return found

    monkeypatch.setattr(Sessions, "_look_up", slow)
    sessions.identity(session)
    assert not is_in(one)


def test_where_others_share_the_store_nothing_is_remembered(api: Client, one: Client) -> None:
    """Another process ends sessions there, and nobody tells this one."""
    session = log_in_as(one, add_user(api))
    store = api.services.store
    here = Sessions(store, lifetime_s=60, cache_s=0)
    assert here.identity(session).session == session
    store.resources.delete(session, lambda _: None)  # as that other process does
    assert here.identity(session).session is None


def test_keys_that_expire_make_none_that_last(api: Client, one: Client) -> None:
    user = add_user(api)
    log_in_as(one, user)
    first = add_key(one, ttl=1000)
    lasting = add_key(one)
    assert "expiry" not in api.get(lasting["key"])
    expiry = api.get(first["key"])["expiry"]
    log_in(one, "api-key", **first)
    for ttl, ends in ((0, expiry), (10**6, expiry), (10, None)):
        made = api.get(add_key(one, ttl=ttl)["key"])
        assert made["expiry"] == ends if ends else made["expiry"] < expiry
    # Nor do the keys of a key of a key, or one that is edited.
    second = add_key(one)
    log_in(one, "api-key", **second)
    third = add_key(one)["key"]
    assert api.get(third)["expiry"] == expiry
    ok(one(ANON, "PUT", third, {"expiry": "2100-01-01T00:00:00.000Z"}))
    ok(one(ANON, "PUT", f"{third}?select=expiry", {}))
    assert api.get(third)["expiry"] == expiry


def test_a_key_is_not_made_in_a_session_that_has_ended(
    api: Client, one: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is deleted while the request that makes the key is under way."""
    session = log_in_as(one, add_user(api))
    hash_ = Keys.hash

    def slow(keys: Keys, secret: str) -> str:
        ok(api(ADMIN, "DELETE", session))
        return hash_(keys, secret)

    monkeypatch.setattr(Keys, "hash", slow)
    body = {"template": {"href": "credential-template/generate-api-key"}}
    refused(one(ANON, "POST", "credential", body), 400, "cannot be accessed")
