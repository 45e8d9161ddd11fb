"""Checklist 1 to 14: routing and envelope."""

from __future__ import annotations

from tests.compat.checklist.conftest import ANON, Http


def test_001_anybody_reads_the_entry_point(http: Http) -> None:
    reply = http.get("/api/cloud-entry-point", headers=ANON)
    assert reply.status_code == 200
    found = reply.json()
    assert found["base-uri"].endswith("/api/")
    assert found["collections"]["job"] == {"href": "job"}
    assert "operations" not in found
