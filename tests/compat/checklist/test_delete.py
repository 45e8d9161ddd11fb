"""Deleting one job and many: statements 89 to 96."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import httpx

from tests.compat.checklist.conftest import JJ_ACL, Headers, Http, Served, identity, refused

BULK: Final = {"bulk": "yes"}
DAY_MS: Final = 86_400_000


def bulk_delete(
    http: Http, who: Headers, form: Mapping[str, str], kind: str = "job", query: str = ""
) -> httpx.Response:
    """Delete as the clients do: a DELETE with a form body."""
    return http.request("DELETE", f"/api/{kind}{query}", data=form or None, headers={**who, **BULK})


def test_089_delete(http: Http) -> None:
    job = http.add_job(acl=JJ_ACL)
    refused(http.delete(f"/api/{job}", headers=http.JANE), 403, f"invalid credentials for '{job}'")
    reply = http.delete(f"/api/{job}", headers=http.ADMIN)
    assert reply.status_code == 200
    assert reply.json() == {"status": 200, "message": f"{job} deleted", "resource-id": job}
    refused(http.delete(f"/api/{job}", headers=http.ADMIN), 404, f"{job} not found")
    refused(http.get(f"/api/{job}", headers=http.ADMIN), 404, f"{job} not found")


def test_089_in_every_state(http: Http) -> None:
    for state in ("RUNNING", "SUCCESS", "FAILED", "CANCELED"):
        job = http.add_job()
        http.put(f"/api/{job}", json={"state": state}, headers=http.ADMIN)
        assert http.delete(f"/api/{job}", headers=http.ADMIN).status_code == 200


def test_090_without_the_bulk_header(http: Http) -> None:
    for who in (http.ADMIN, http.JANE):  # it is looked at before the rights
        reply = http.delete("/api/job?filter=id!=null", headers=who)
        refused(reply, 400, "Bulk request should contain bulk http header.")


def test_091_without_a_filter(http: Http) -> None:
    message = "Bulk request should contain a non empty cimi filter."
    refused(bulk_delete(http, http.ADMIN, {}), 400, message)
    refused(bulk_delete(http, http.JANE, {}), 400, message)
    wrong = bulk_delete(http, http.ADMIN, {"filter": "state=QUEUED"})
    refused(wrong, 400, "Invalid CIMI filter.")
    refused(bulk_delete(http, http.ADMIN, {"filter": ""}), 400, "Invalid CIMI filter.")


def test_092_a_filter_in_the_form(http: Http) -> None:
    gone = [http.add_job(action="swept-92") for _ in range(3)]
    kept = http.add_job(action="kept-92")
    reply = bulk_delete(http, http.ADMIN, {"filter": "action='swept-92'"})
    assert reply.status_code == 200
    summary: dict[str, Any] = reply.json()
    assert (summary["deleted"], summary["total"], summary["timed_out"]) == (3, 3, False)
    assert summary["failures"] == []
    assert isinstance(summary["took"], int)
    assert {http.get(f"/api/{job}", headers=http.ADMIN).status_code for job in gone} == {404}
    assert http.read(kept)["id"] == kept
    again = bulk_delete(http, http.ADMIN, {"filter": "action='swept-92'"}).json()
    assert (again["deleted"], again["total"]) == (0, 0)


def test_093_a_filter_in_the_query_string(http: Http) -> None:
    http.add_job(action="swept-93")
    reply = bulk_delete(http, http.ADMIN, {}, query="?filter=action='swept-93'")
    assert reply.json()["deleted"] == 1


def test_094_who_may_not(http: Http) -> None:
    job = http.add_job(acl=JJ_ACL)
    for who in (http.JANE, http.NB, http.ANON):
        reply = bulk_delete(http, who, {"filter": f"id='{job}'"})
        refused(reply, 403, "credentials required")
    assert http.read(job)["id"] == job


def test_095_only_what_one_may_delete(http: Http) -> None:
    """Of assignments, whose collection has it for teachers."""
    teachers = [
        identity(f"user/t{n} user/t{n} user/t{n} group/nuvla-user group/job-teacher")
        for n in range(2)
    ]

    def publish(who: Headers, name: str) -> str:
        content = name.encode()
        raw = {"content-type": "application/octet-stream"}
        http.post("/api/blob", content=content, headers={**who, **raw})
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        acl = {"owners": [who["nuvla-authn-info"].split()[0]], "view-acl": ["group/nuvla-user"]}
        body = {"name": name, "digest": digest, "acl": acl}
        reply = http.post("/api/assignment", json=body, headers=who)
        assert reply.status_code == 201, reply.text
        return str(reply.json()["resource-id"])

    mine, theirs = (publish(who, f"for-95-{n}") for n, who in enumerate(teachers))
    everyone = {"filter": "name^='for-95-'"}
    assert http.search(teachers[0], "assignment", **everyone)["count"] == 2
    refused(bulk_delete(http, http.JANE, everyone, "assignment"), 403, "credentials required")
    summary = bulk_delete(http, teachers[0], everyone, "assignment").json()
    assert (summary["deleted"], summary["total"]) == (1, 1)
    refused(http.get(f"/api/{mine}", headers=http.ADMIN), 404, "not found")
    assert http.read(theirs)["id"] == theirs
    assert bulk_delete(http, http.ADMIN, everyone, "assignment").json()["deleted"] == 1
    refused(bulk_delete(http, http.ADMIN, everyone, "user"), 405, "invalid method (delete)")


def test_096_old_final_jobs(http: Http, server: Served) -> None:
    """The filter of the peer's `cleanup_jobs`."""
    jobs: dict[tuple[str, bool], str] = {}
    for state in ("QUEUED", "RUNNING", "SUCCESS", "FAILED", "CANCELED"):
        for old in (True, False):
            job = jobs[state, old] = http.add_job(action="aged-96")
            http.put(f"/api/{job}", json={"state": state}, headers=http.ADMIN)
    created_ms = int(time.time() * 1000) - 8 * DAY_MS
    with closing(sqlite3.connect(server.store, timeout=30)) as store, store:
        store.executemany(
            "UPDATE jobs SET created_ms = ? WHERE id = ?",
            [(created_ms, job) for (_, old), job in jobs.items() if old],
        )
    filter_ = "state=['SUCCESS', 'FAILED', 'CANCELED'] and created<'now-7d'"
    summary = bulk_delete(http, http.ADMIN, {"filter": f"{filter_} and action='aged-96'"}).json()
    assert (summary["deleted"], summary["timed_out"]) == (3, False)
    found = http.search(filter="action='aged-96'", select="id")["resources"]
    assert {item["id"] for item in found} == {
        job for (state, old), job in jobs.items() if not old or state in ("QUEUED", "RUNNING")
    }
