"""Jobs that nobody can run: statement 61, replaced."""

from __future__ import annotations

from pathlib import Path

from job_engine.settings import DistributorSettings
from tests.compat.checklist.conftest import Http
from tests.support.engine import Engine, eventually


def test_061_an_action_that_nobody_has_is_accepted_and_fails(tmp_path: Path, zk_hosts: str) -> None:
    """Replaces statement 61: the job says why it failed, after a minute in which nobody came."""
    assert DistributorSettings.model_fields["orphan_grace_s"].default == 60
    with Engine(tmp_path, zk_hosts) as engine, Http(base_url=engine.url, timeout=30) as http:
        engine.start_api(trusted_peers=["127.0.0.1"])
        engine.start_distributor(orphan_grace_s=1)
        engine.start_executor()
        job = http.add_job(action="noup")
        eventually(lambda: http.read(job)["state"] == "FAILED", 60, "the job to be failed")
        found = http.read(job)
        assert "No executor has the action 'noup'" in found["status-message"]
        assert "time-of-status-change" in found
        assert {"started", "tags"}.isdisjoint(found)
