"""Access control lists (statements 130 to 135)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.compat.checklist.conftest import Http, refused

LISTS: Final = (
    *("edit-acl", "edit-data", "edit-meta"),
    *("view-acl", "view-data", "view-meta"),
    *("manage", "delete"),
)
METADATA: Final = {
    *("id", "resource-type", "created", "updated", "name", "description", "tags"),
    *("subtype", "parent", "resource-metadata", "operations"),
}
PRINCIPAL: Final = "user/jane"


def job_for_jane(http: Http, right: str) -> str:
    """A job of an admin's, with one right for Jane."""
    acl = {"owners": ["group/nuvla-admin"], right: [PRINCIPAL]}
    return http.add_job(acl=acl, name="named", description="described")


def test_130_admins_stand_in_every_list(http: Http) -> None:
    acl = http.read(http.add_job(acl={"owners": ["user/a"]}))["acl"]
    assert acl == {"owners": ["user/a"], **{right: ["group/nuvla-admin"] for right in LISTS}}


def test_131_implied_rights_are_written_out(http: Http) -> None:
    acl = http.read(job_for_jane(http, "edit-data"))["acl"]
    holding = {right for right in LISTS if PRINCIPAL in acl.get(right, [])}
    assert holding == {"edit-data", "edit-meta", "view-data", "view-meta"}


def test_132_who_only_manages_sees_nothing(http: Http) -> None:
    job = job_for_jane(http, "manage")
    refused(http.get(f"/api/{job}", headers=http.JANE), 403, f"invalid credentials for '{job}'")
    assert http.search(http.JANE, filter=f"id='{job}'")["count"] == 0
    assert http.post(f"/api/{job}/cancel", headers=http.JANE).status_code == 200
    assert http.read(job)["state"] == "CANCELED"


def test_133_view_meta_shows_metadata(http: Http) -> None:
    job = job_for_jane(http, "view-meta")
    seen = http.read(job, http.JANE)
    assert seen["name"] == "named"
    assert set(seen) <= METADATA
    (found,) = http.search(http.JANE, filter=f"id='{job}'")["resources"]
    assert set(found) <= METADATA


def test_134_view_data_hides_the_acl_and_view_acl_shows_it(http: Http) -> None:
    data = http.read(job_for_jane(http, "view-data"), http.JANE)
    assert data["state"] == "QUEUED"
    assert "acl" not in data
    assert "acl" in http.read(job_for_jane(http, "view-acl"), http.JANE)


@pytest.mark.parametrize(
    "acl",
    [
        {"owners": ["user/a"], "odd": ["user/b"]},
        {"owners": ["user-a"]},
        {"owners": ["user/a"], "manage": ["nobody"]},
        {"owners": []},
        {"owners": ["user/a", "user/a"]},
        {"owners": "user/a"},
        [],
    ],
)
def test_135_acls_that_will_not_do(http: Http, acl: Any) -> None:
    reply = http.post("/api/job", json={"action": "noop", "acl": acl}, headers=http.ADMIN)
    refused(reply, 400, "does not satisfy defined schema")
