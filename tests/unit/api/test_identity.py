"""Logging in, sessions, keys, users and what they may do (docs/cimi.md §7, 109 to 129)."""

from __future__ import annotations

import json
import re
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import httpx
import pytest

from job_engine.api.auth.limiter import FAILURES
from job_engine.api.services import COOKIE
from job_engine.settings import ApiSettings
from tests.unit.api.support import (
    ADMIN,
    ADMIN_PASSWORD,
    ANON,
    EXECUTOR,
    JANE,
    Client,
    Running,
    operations,
    refused,
)

PASSWORD = "session-template/password"
API_KEY = "session-template/api-key"


def log_in(api: Client, href: str = PASSWORD, **template: str) -> httpx.Response:
    return api(ANON, "POST", "session", {"template": {"href": href, **template}})


def user(api: Client, name: str, *roles: str, password: str = "long enough") -> str:
    template = {
        "href": "user-template/username-password",
        "username": name,
        "password": password,
        "roles": list(roles),
    }
    reply = api(ADMIN, "POST", "user", {"template": template})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["resource-id"])


@pytest.fixture
def browser(server: Running) -> Iterator[Client]:
    """A further client, with cookies of its own."""
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield Client(http, server)


def test_logging_in_and_out(api: Client) -> None:
    reply = log_in(api, username="admin", password=ADMIN_PASSWORD)
    assert reply.status_code == 201
    session = reply.json()["resource-id"]
    assert reply.headers["location"] == session
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "Path=/" in cookie
    assert "HttpOnly" in cookie
    assert "Secure" not in cookie
    assert re.search(r"Expires=\w{3}, [1-9]\d? \w{3} \d{4} \d\d:\d\d:\d\d GMT", cookie)
    found = api(ANON, "PUT", "session", data={"filter": "id='other'"}).json()
    assert found["count"] == 1
    document = found["resources"][0]
    assert document["id"] == session
    assert document["identifier"] == "admin"
    assert {"group/nuvla-admin", session} <= set(document["roles"].split())
    assert operations(document) == ["delete", "get-peers", "get-groups", "switch-group"]
    assert operations(found) == ["add"]
    assert api(ANON, "POST", "job", {"action": "x"}).status_code == 201
    saved = f"{COOKIE}={api.http.cookies[COOKIE]}"
    reply = api(ANON, "DELETE", session)
    assert reply.json()["message"] == f"{session} deleted"
    assert f"{COOKIE}=INVALID" in reply.headers["set-cookie"]
    assert "Max-Age=0" in reply.headers["set-cookie"]
    assert not api.http.cookies
    # The token that somebody kept is worth nothing any more, at once.
    kept = api(ANON, "GET", "job", headers={"cookie": saved})
    refused(kept, 403, "credentials required")


def test_another_cookie_of_the_same_name_does_no_harm(api: Client) -> None:
    """A browser sends both where a parent domain has one, in either order."""
    template = {
        "href": "session-template/password",
        "username": "admin",
        "password": ADMIN_PASSWORD,
    }
    login = api(ANON, "POST", "session", {"template": template})
    mine = login.headers["set-cookie"].partition(";")[0]
    theirs = mine.partition("=")[0] + "=theirs"
    for cookies in (f"{theirs}; {mine}", f"{mine}; {theirs}", f"a=b; {mine}; {theirs}; c=d"):
        found = httpx.get(f"{api.running.url}/api/session", headers={"cookie": cookies}).json()
        assert found["count"] == 1, cookies
    gone = httpx.get(f"{api.running.url}/api/session", headers={"cookie": f"{theirs}; {theirs}"})
    assert gone.json()["count"] == 0


def test_the_cookie_is_secure_on_https(api: Client) -> None:
    body = {"template": {"href": PASSWORD, "username": "admin", "password": ADMIN_PASSWORD}}
    reply = api(ANON, "POST", "session", body, headers={"x-forwarded-proto": "https"})
    assert "; Secure;" in reply.headers["set-cookie"]


def test_a_form_logs_in_too(api: Client) -> None:
    form = {"href": PASSWORD, "username": "admin", "password": ADMIN_PASSWORD}
    assert api(ANON, "POST", "session", data=form).status_code == 201


def test_wrong_logins(api: Client) -> None:
    refused(log_in(api, username="admin", password="x"), 403, "invalid credentials for 'admin'")
    refused(log_in(api, username="who", password="x"), 403, "invalid credentials for 'who'")
    refused(log_in(api), 403, "invalid credentials for ''")
    refused(log_in(api, API_KEY, key="abc", secret="x"), 403, "for 'credential/abc'")
    refused(log_in(api, username="admin", password="x", odd="y"), 400, "odd: unknown attribute")
    refused(log_in(api, "session-template/nope"), 404, "session-template/nope not found")
    refused(api(ANON, "POST", "session", {"template": {}}), 400, "template/href")


def test_guessing_is_slowed_down(api: Client) -> None:
    for _ in range(FAILURES):
        refused(log_in(api, API_KEY, key="victim", secret="x"), 403, "invalid credentials")
    refused(log_in(api, API_KEY, key="victim", secret="x"), 429, "Too many failed logins")
    assert log_in(api, username="admin", password=ADMIN_PASSWORD).status_code == 201


def test_nothing_answers_401(api: Client) -> None:
    api.http.cookies.set(COOKIE, "tampered")
    refused(api(ANON, "GET", "job"), 403, "credentials required")
    assert api(ANON, "PUT", "session").json()["count"] == 0
    assert api(ADMIN, "PUT", "session").json()["count"] == 0


def test_the_header_wins_over_the_cookie(api: Client) -> None:
    log_in(api, username="admin", password=ADMIN_PASSWORD)
    refused(api(JANE, "POST", "job", {"action": "x"}), 403, "credentials required")
    two = "user/super group/nuvla-admin"
    refused(api(two, "POST", "job", {"action": "x"}), 403, "credentials required")
    assert api(f"{two} group/nuvla-admin", "POST", "job", {"action": "x"}).status_code == 201


def test_api_keys(api: Client, browser: Client) -> None:
    template = {"href": "credential-template/generate-api-key", "ttl": 1000}
    reply = api(JANE, "POST", "credential", {"template": template, "name": "mine"})
    assert reply.status_code == 201
    key, secret = reply.json()["resource-id"], reply.json()["secret-key"]
    assert re.fullmatch(r"([2-9A-Za-z]{6}\.){4}[2-9A-Za-z]{6}", secret)
    document = api.get(key, JANE)
    assert document["expiry"]
    assert document["name"] == "mine"
    assert secret not in json.dumps(document)
    assert "digest" not in document
    assert document["claims"]["identity"] == "user/jane"
    refused(log_in(browser, API_KEY, key=key, secret="wrong"), 403, f"for '{key}'")
    bare = log_in(browser, API_KEY, key=key.partition("/")[2], secret=secret.replace(".", ""))
    assert bare.status_code == 201
    session = browser(ANON, "PUT", "session").json()["resources"][0]
    assert {"user/jane", "group/nuvla-user"} <= set(session["roles"].split())
    assert browser(ANON, "GET", "job").status_code == 200
    refused(api(EXECUTOR, "GET", session["id"]), 403, "invalid credentials")
    # Revoking the key ends what was opened with it.
    assert api(JANE, "DELETE", key).status_code == 200
    refused(browser(ANON, "GET", "job"), 403, "credentials required")


def test_keys_without_end_and_expired_ones(api: Client) -> None:
    template = {"href": "credential-template/generate-api-key", "ttl": 0}
    reply = api(JANE, "POST", "credential", {"template": template}).json()
    assert "expiry" not in api.get(reply["resource-id"])
    stored = api.services.store.resources
    past = "2000-01-01T00:00:00.000Z"
    stored.edit(
        reply["resource-id"],
        lambda r: type(r)({**r.document, "expiry": past}, r.secret, r.key, r.expires_ms),
    )
    found = log_in(api, API_KEY, key=reply["resource-id"], secret=reply["secret-key"])
    refused(found, 403, "invalid credentials")


def test_keys_have_no_more_than_their_maker(api: Client) -> None:
    template = {"href": "credential-template/generate-api-key", "roles": ["group/job-executor"]}
    refused(api(JANE, "POST", "credential", {"template": template}), 400, "you are not in")
    reply = api(ADMIN, "POST", "credential", {"template": template}).json()
    roles = set(api.get(reply["resource-id"])["claims"]["roles"])
    assert "group/job-executor" in roles
    assert "group/nuvla-admin" not in roles
    key = api(JANE, "POST", "credential", {"template": {"href": template["href"]}}).json()
    edited = api(JANE, "PUT", key["resource-id"], {"claims": {"identity": "user/x", "roles": []}})
    assert edited.json()["claims"]["identity"] == "user/jane"
    anonymous = api(ANON, "POST", "credential", {"template": template})
    assert anonymous.status_code in (400, 403)
    refused(api(ANON, "GET", "credential"), 403, "credentials required")
    assert api.count(EXECUTOR + " group/nuvla-user", "id!=null", "credential") == 0


def test_keys_that_an_admin_limits_are_nobody_elses(api: Client, browser: Client) -> None:
    """Two platforms with keys of one admin see nothing of each other, nor of the admin."""
    roles = {"href": "credential-template/generate-api-key", "roles": ["group/job-submitter"]}
    jobs: list[str] = []
    for _ in range(2):
        made = api(ADMIN, "POST", "credential", {"template": roles}).json()
        key = {"key": made["resource-id"], "secret": made["secret-key"]}
        assert log_in(browser, API_KEY, **key).status_code == 201
        assert browser(ANON, "GET", "credential").json()["count"] == 1  # itself
        job = browser(ANON, "POST", "job", {"action": "noop"}).json()["resource-id"]
        assert [browser(ANON, "GET", other).status_code for other in jobs] == [403] * len(jobs)
        assert browser(ANON, "GET", job).json()["created-by"].startswith("service/")
        jobs.append(job)
        browser.http.cookies.clear()


def test_users(api: Client, browser: Client) -> None:
    user_id = user(api, "jo", "group/job-submitter")
    assert log_in(browser, username="jo", password="long enough").status_code == 201
    assert browser(ANON, "POST", "job", {"action": "x"}).status_code == 201
    document = browser.get(user_id, ANON)
    assert document["username"] == "jo"
    assert "argon2" not in json.dumps(document)
    assert browser(ANON, "PUT", user_id, {"roles": ["group/nuvla-admin"], "name": "J"}).json()[
        "roles"
    ] == ["group/job-submitter"]
    refused(browser(ANON, "POST", "user", {"template": {}}), 403, "credentials required")
    # A role that is taken away is gone at once.
    assert api(ADMIN, "PUT", user_id, {"roles": []}).status_code == 200
    refused(browser(ANON, "POST", "job", {"action": "x"}), 403, "credentials required")
    assert log_in(browser, username="jo", password="long enough").status_code == 201
    assert api(ADMIN, "PUT", user_id, {"state": "SUSPENDED"}).status_code == 200
    refused(log_in(browser, username="jo", password="long enough"), 403, "invalid credentials")
    assert (
        api(ADMIN, "PUT", user_id, {"state": "ACTIVE", "password": "a new one"}).status_code == 200
    )
    refused(log_in(browser, username="jo", password="long enough"), 403, "invalid credentials")
    assert log_in(browser, username="jo", password="a new one").status_code == 201
    assert api(ADMIN, "DELETE", user_id).status_code == 200
    refused(browser(ANON, "GET", "job"), 403, "credentials required")


def test_users_that_will_not_do(api: Client) -> None:
    def make(**more: object) -> httpx.Response:
        template = {"href": "user-template/username-password", "username": "x", **more}
        return api(ADMIN, "POST", "user", {"template": template})

    refused(make(password="short"), 400, "8 to 1000 characters")
    refused(make(password="long enough", username="a b"), 400, "username")
    refused(make(password="long enough", roles="group/x"), 400, "roles")
    refused(make(password="long enough", href="user-template/nope"), 404, "not found")
    user(api, "twice")
    refused(make(password="long enough", username="twice"), 409, "conflict with user/")


def test_the_first_start_makes_keys_for_the_services(api: Client, settings: ApiSettings) -> None:
    for name in ("executor", "distributor"):
        file = settings.credentials / f"{name}.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with httpx.Client(base_url=api.running.url) as http:
            service = Client(http, api.running)
            assert log_in(service, API_KEY, **json.loads(file.read_text())).status_code == 201
            roles = service(ANON, "PUT", "session").json()["resources"][0]["roles"].split()
            assert f"group/job-{name}" in roles
            assert "group/nuvla-admin" not in roles


def key_of(api: Client, browser: Client, name: str, **template: object) -> dict[str, str]:
    """Log a user in, and make an API key as that user."""
    assert log_in(browser, username=name, password="long enough").status_code == 201
    body = {"template": {"href": "credential-template/generate-api-key", **template}}
    made = browser(ANON, "POST", "credential", body).json()
    browser.http.cookies.clear()
    return {"key": made["resource-id"], "secret": made["secret-key"]}


def test_a_suspended_user_has_no_keys_either(api: Client, browser: Client) -> None:
    """The command line's login is such a key."""
    user_id = user(api, "suspended", "group/job-submitter")
    key = key_of(api, browser, "suspended")
    assert log_in(browser, API_KEY, **key).status_code == 201
    assert api(ADMIN, "PUT", user_id, {"state": "SUSPENDED"}).status_code == 200
    refused(browser(ANON, "PUT", "job"), 403, "credentials required")
    refused(log_in(browser, API_KEY, **key), 403, "invalid credentials")
    assert api(ADMIN, "PUT", user_id, {"state": "ACTIVE"}).status_code == 200
    assert log_in(browser, API_KEY, **key).status_code == 201


def test_with_a_role_go_the_keys_that_have_it(api: Client, browser: Client) -> None:
    roles = ["group/job-submitter", "group/nuvla-admin"]
    user_id = user(api, "demoted", *roles)
    powerful = key_of(api, browser, "demoted")
    modest = key_of(api, browser, "demoted", roles=["group/job-submitter"])
    assert api(ADMIN, "PUT", user_id, {"roles": roles[:1]}).status_code == 200
    refused(log_in(browser, API_KEY, **powerful), 403, "invalid credentials")
    assert log_in(browser, API_KEY, **modest).status_code == 201


def test_a_session_ends_with_the_key_that_it_was_opened_with(api: Client, browser: Client) -> None:
    user(api, "brief")
    key = key_of(api, browser, "brief", ttl=1000)
    expiry = api.get(key["key"])["expiry"]
    assert log_in(browser, API_KEY, **key).status_code == 201
    assert browser(ANON, "PUT", "session").json()["resources"][0]["expiry"] == expiry


def test_a_storm_of_logins_starves_nobody(api: Client) -> None:
    """Hashing has its bounds: what waits is refused, and everything else goes on."""
    hasher = api.services.passwords
    go = threading.Event()
    real = hasher._hasher

    class Stuck:
        """Takes as long as the test lets it."""

        def verify(self, stored: str, secret: str) -> bool:
            assert go.wait(60)
            return bool(real.verify(stored, secret))

    def storm() -> int:
        with httpx.Client(base_url=api.running.url, timeout=60) as http:
            template = {"href": PASSWORD, "username": "admin", "password": ADMIN_PASSWORD}
            reply = http.post("/api/session", json={"template": template})
            if reply.status_code == 429:
                assert int(reply.headers["retry-after"]) >= 1
            return reply.status_code

    object.__setattr__(hasher, "_hasher", Stuck())
    try:
        with ThreadPoolExecutor(60) as pool:
            logins = [pool.submit(storm) for _ in range(60)]
            turned_away = list(islice(as_completed(logins, 60), 42))
            assert {login.result() for login in turned_away} == {429}
            # Two are at it, 16 wait, and a request that needs no hash is answered.
            assert api(JANE, "GET", "job").status_code == 200
            go.set()
            statuses = [login.result() for login in logins]
    finally:
        object.__setattr__(hasher, "_hasher", real)
    assert statuses.count(201) == 18
    assert statuses.count(429) == 42
