"""Logging in, sessions, API keys (statements 109 to 129)."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
import requests
from nuvla.api import Api
from nuvla.api.api import NuvlaError

from tests.compat.checklist.conftest import Headers, Http, Served, identity, refused

COOKIE: Final = "com.com.sixsq.nuvla.cookie"
KEY_LOGIN: Final = "session-template/api-key"
PASSWORD_LOGIN: Final = "session-template/password"
NEW_KEY: Final = "credential-template/generate-api-key"
SECRET: Final = re.compile(
    r"([23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ]{6}\.){4}"
    r"[23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ]{6}"
)


@dataclass(frozen=True)
class Key:
    """An API key."""

    id: str
    secret: str


def new_key(http: Http, who: Headers = Http.ADMIN, **template: object) -> Key:
    """Make an API key as somebody."""
    body = {"template": {"href": NEW_KEY, **template}}
    reply = http.post("/api/credential", json=body, headers=who)
    assert reply.status_code == 201, reply.text
    return Key(reply.json()["resource-id"], reply.json()["secret-key"])


def log_in(http: Http, href: str = KEY_LOGIN, **template: object) -> httpx.Response:
    return http.post("/api/session", json={"template": {"href": href, **template}})


def with_key(http: Http, key: Key) -> str:
    """Log in with a key, and return the session's id."""
    reply = log_in(http, key=key.id, secret=key.secret)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["resource-id"])


@pytest.fixture
def browser(server: Served) -> Iterator[Http]:
    """A further client, with cookies of its own."""
    with Http(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def stored(server: Served) -> Callable[..., None]:
    """Changes an attribute of a stored document behind the server's back."""

    def change(resource_id: str, **values: object) -> None:
        with closing(sqlite3.connect(server.store, timeout=30)) as store, store:
            for name, value in values.items():
                store.execute(
                    "UPDATE resources SET document = json_set(document, ?, ?) WHERE id = ?",
                    (f"$.{name}", value, resource_id),
                )

    return change


@pytest.fixture
def expired(server: Served) -> Callable[[str], None]:
    """Makes a stored session one that has expired."""

    def expire(session: str) -> None:
        with closing(sqlite3.connect(server.store, timeout=30)) as store, store:
            store.execute("UPDATE resources SET expires_ms = 1 WHERE id = ?", (session,))

    return expire


def test_109_a_valid_key_logs_in(http: Http, browser: Http) -> None:
    key = new_key(http)
    reply = log_in(browser, key=key.id, secret=key.secret)
    assert reply.status_code == 201
    session = reply.json()["resource-id"]
    assert re.fullmatch(r"session/[0-9a-f-]{36}", session)
    assert reply.json() == {
        "status": 201,
        "message": f"{session} created",
        "resource-id": session,
    }
    assert reply.headers["location"] == session
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "; Path=/" in cookie
    assert "; HttpOnly" in cookie
    assert re.search(r"; Expires=\w{3}, [1-9]\d? \w{3} \d{4} \d\d:\d\d:\d\d GMT", cookie)


def test_110_wrong_expired_and_other_keys_do_not(
    http: Http, browser: Http, stored: Callable[..., None]
) -> None:
    key = new_key(http)
    refused(log_in(browser, key=key.id, secret="wrong"), 403, f"invalid credentials for '{key.id}'")
    unknown = f"credential/{uuid.uuid4()}"
    refused(
        log_in(browser, key=unknown, secret=key.secret), 403, f"invalid credentials for '{unknown}'"
    )
    for change in ({"expiry": "2020-01-01T00:00:00.000Z"}, {"subtype": "ssh-key"}):
        other = new_key(http)
        stored(other.id, **change)
        reply = log_in(browser, key=other.id, secret=other.secret)
        refused(reply, 403, f"invalid credentials for '{other.id}'")
    assert not browser.cookies


def test_111_a_bare_uuid_names_a_key(http: Http, browser: Http) -> None:
    key = new_key(http)
    with_key(browser, Key(key.id.partition("/")[2], key.secret))


def test_112_dots_of_a_secret_may_be_missing(http: Http, browser: Http) -> None:
    key = new_key(http)
    with_key(browser, Key(key.id, key.secret.replace(".", "")))


def test_113_unknown_fields_and_templates(http: Http) -> None:
    refused(log_in(http, key="x", secret="y", odd="z"), 400, "does not satisfy defined schema")
    refused(log_in(http, "session-template/nope"), 404, "session-template/nope not found")


def test_114_inactive_and_unknown_users_do_not_log_in(http: Http, browser: Http) -> None:
    template = {
        "href": "user-template/username-password",
        "username": "sleeper",
        "password": "long enough",
    }
    user = http.post("/api/user", json={"template": template}, headers=http.ADMIN).json()
    suspended = http.put(
        f"/api/{user['resource-id']}", json={"state": "SUSPENDED"}, headers=http.ADMIN
    )
    assert suspended.status_code == 200
    for name in ("sleeper", "nobody"):
        reply = log_in(browser, PASSWORD_LOGIN, username=name, password="long enough")
        refused(reply, 403, f"invalid credentials for '{name}'")


def test_115_a_session_finds_itself_and_nothing_else(http: Http, browser: Http) -> None:
    session = with_key(browser, new_key(http))
    for form in ({}, {"filter": "id='session/other'"}, {"filter": "method='password'"}):
        found = browser.search(browser.ANON, "session", **form)
        assert found["count"] == 1
        assert found["resources"][0]["id"] == session


def test_116_who_has_no_session_finds_none(
    http: Http, browser: Http, expired: Callable[[str], None]
) -> None:
    for who in (http.ANON, http.ADMIN):
        assert http.search(who, "session")["count"] == 0
    expired(with_key(browser, new_key(http)))
    found = browser.put("/api/session")
    assert (found.status_code, found.json()["count"]) == (200, 0)


def test_117_a_session_is_its_holders(http: Http, browser: Http) -> None:
    session = with_key(browser, new_key(http, http.JANE))
    rels = {item["rel"] for item in browser.read(session, browser.ANON)["operations"]}
    assert {"delete", "switch-group"} <= rels
    assert "edit" not in rels
    other = http.get(f"/api/{session}", headers=http.JANE)
    refused(other, 403, f"invalid credentials for '{session}'")


def test_118_logging_out_takes_the_cookie_away(http: Http, browser: Http) -> None:
    session = with_key(browser, new_key(http))
    assert browser.cookies
    reply = browser.delete(f"/api/{session}")
    assert reply.status_code == 200
    assert reply.json()["message"] == f"{session} deleted"
    cookie = reply.headers["set-cookie"]
    assert f"{COOKIE}=INVALID" in cookie
    assert "Max-Age=0" in cookie
    assert not browser.cookies


def test_119_sessions_are_not_edited_nor_deleted_together(http: Http, browser: Http) -> None:
    session = with_key(browser, new_key(http))
    refused(browser.delete("/api/session"), 405, "invalid method (delete) for /api/session")
    refused(browser.put(f"/api/{session}", json={}), 405, "invalid method (put)")


def test_120_the_header_comes_before_the_cookie(http: Http, browser: Http) -> None:
    with_key(browser, new_key(http))  # an admin's
    job = browser.add_job(browser.ANON)
    reply = browser.get(f"/api/{job}", headers=browser.JANE)
    refused(reply, 403, f"invalid credentials for '{job}'")


def test_121_the_second_term_is_no_claim(http: Http) -> None:
    two = identity("user/super group/nuvla-admin")
    refused(
        http.post("/api/job", json={"action": "noop"}, headers=two), 403, "credentials required"
    )
    http.add_job(identity("user/super group/nuvla-admin group/nuvla-admin"))


def test_122_a_tampered_cookie_is_nobodys(http: Http, browser: Http) -> None:
    with_key(browser, new_key(http))
    token = browser.cookies[COOKIE]
    for wrong in (f"{token[:-1]}{'a' if token[-1] != 'a' else 'b'}", "x", "", f"{token}.x"):
        reply = http.get("/api/job", headers={"cookie": f"{COOKIE}={wrong}"})
        refused(reply, 403, "credentials required")


@pytest.mark.parametrize(
    "headers", [Http.ANON, {"cookie": f"{COOKIE}=x"}, {"authorization": "Bearer x"}]
)
def test_123_nothing_answers_401(http: Http, headers: Headers) -> None:
    answered = {
        http.request(method, f"/api/{path}", headers=headers).status_code
        for method in ("GET", "PUT", "POST", "DELETE", "PATCH")
        for path in ("job", "user", "credential", "session", "blob", "event", "engine/claim")
    }
    answered |= {http.get(f"/api/{http.add_job()}", headers=headers).status_code}
    assert 401 not in answered
    assert 403 in answered


class Recorded:
    """The requests that a client sends, as method, path and the answer's status."""

    def __init__(self, api: Api) -> None:
        self.seen: list[tuple[str | None, str, int]] = []
        api.session.hooks["response"].append(self._see)

    def _see(self, response: requests.Response, *_: Any, **__: Any) -> None:
        path = response.url.partition("/api/")[2]
        self.seen.append((response.request.method, path, response.status_code))


@pytest.fixture
def again(http: Http, server: Served) -> Iterator[Api]:
    """A client that logs in again where it has to, with a cookie that is worth nothing."""
    key = new_key(http)
    api = Api(
        server.url,
        insecure=True,
        persist_cookie=False,
        reauthenticate=True,
        login_creds={"key": key.id, "secret": key.secret},
    )
    api.session.cookies.set(COOKIE, "worthless", path="/")
    yield api
    api.session.close()


def test_124_a_403_makes_a_client_log_in_once(http: Http, again: Api) -> None:
    job = http.add_job()
    recorded = Recorded(again)
    assert again.get(job).id == job
    assert recorded.seen == [("GET", job, 403), ("POST", "session", 201), ("GET", job, 200)]


def test_125_other_errors_do_not(http: Http, again: Api) -> None:
    final = http.add_job()
    assert http.post(f"/api/{final}/cancel", headers=http.ADMIN).status_code == 200
    again.get(final)
    recorded = Recorded(again)
    calls: list[Callable[[], object]] = [
        lambda: again.get("job/nothing"),
        lambda: again.edit(final, {"name": "x"}),
        lambda: again.search("job", filter="=="),
    ]
    for call in calls:
        with pytest.raises(NuvlaError):
            call()
    assert [status for _, _, status in recorded.seen] == [404, 409, 400]


def test_126_the_cookie_is_sent_over_plain_http(http: Http, server: Served) -> None:
    key = new_key(http)
    api = Api(server.url, insecure=True, persist_cookie=False)
    assert api.login_apikey(key.id, key.secret).status_code == 201
    assert api.search("job", last=0).count >= 0  # a 403 to anybody else
    assert api.is_authenticated()
    api.session.close()


def test_127_secrets_of_new_keys(http: Http) -> None:
    body = {"template": {"href": NEW_KEY, "ttl": 1000}}
    reply = http.post("/api/credential", json=body, headers=http.JANE)
    assert reply.status_code == 201
    secret = reply.json()["secret-key"]
    assert SECRET.fullmatch(secret)
    document = http.read(reply.json()["resource-id"])
    assert document["expiry"] > document["created"]
    assert document["subtype"] == "api-key"
    assert document["method"] == "generate-api-key"
    assert secret not in json.dumps(document)
    for template in ({"ttl": 0}, {}):
        assert "expiry" not in http.read(new_key(http, http.JANE, **template).id)


def test_127_the_digest_is_not_the_secret(http: Http, server: Served) -> None:
    """And it is salted: two keys have nothing in common."""
    keys = [new_key(http, http.JANE) for _ in range(2)]
    with closing(sqlite3.connect(server.store, timeout=30)) as store:
        found = [
            store.execute("SELECT secret FROM resources WHERE id = ?", (key.id,)).fetchone()[0]
            for key in keys
        ]
    for key, digest in zip(keys, found, strict=True):
        assert digest.startswith("$argon2id$")
        assert key.secret not in digest
    assert found[0].split("$")[-2] != found[1].split("$")[-2]


def test_128_a_session_has_what_its_key_has(http: Http, browser: Http) -> None:
    first = with_key(browser, new_key(http, http.JANE))
    made_in_a_session = new_key(browser, browser.ANON)
    claims = set(http.read(made_in_a_session.id)["claims"]["roles"])
    assert claims == {"user/jane", "group/nuvla-user", "group/nuvla-anon"}
    assert http.read(made_in_a_session.id)["claims"]["identity"] == "user/jane"
    browser.cookies.clear()
    session = with_key(browser, made_in_a_session)
    document = browser.read(session, browser.ANON)
    assert set(document["roles"].split()) == claims | {session}
    assert first not in document["roles"]
    assert (document["user"], document["identifier"]) == ("user/jane", "user/jane")


def test_129_anonymous_have_no_keys(http: Http) -> None:
    body = {"template": {"href": NEW_KEY}}
    refused(http.post("/api/credential", json=body), 400, "requested href cannot be accessed")
    refused(http.post("/api/credential", json={"template": {}}, headers=http.JANE), 400, "href")
    refused(http.get("/api/credential"), 403, "credentials required")
