"""What Prometheus is told, and who may read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from job_engine.model.protocol.actions import ActionDescription
from job_engine.settings import ApiSettings
from tests.unit.api.support import ADMIN, ANON, DISTRIBUTOR, EXECUTOR, LMS, Client, serving

Samples = dict[tuple[str, frozenset[str]], float]
"""Values by the metric's name and its labels' values."""


def samples(reply: httpx.Response) -> Samples:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(reply.text)
    return {(s.name, frozenset(s.labels.values())): s.value for f in families for s in f.samples}


def of(name: str, *labels: str) -> tuple[str, frozenset[str]]:
    return name, frozenset(labels)


def test_claims_and_reports_are_counted(api: Client) -> None:
    api.running.services.store.actions.publish(
        [ActionDescription(name="noop", payload_schema={}, timeout_s=1)]
    )
    api.add_job()
    api.add_job(action="nobody has this")
    job = api.run_job()
    report = {"job": job, "fence": [1, 1], "kind": "finish", "state": "FAILED"}
    api(EXECUTOR, "POST", "engine/report", {"executor": "e", "reports": [report, report]})
    with api.http.stream(
        "GET", "/api/engine/events", headers={"nuvla-authn-info": EXECUTOR}
    ) as stream:
        lines = stream.iter_lines()  # which ends the stream when it is dropped
        assert next(lines) == ": connected"
        found = samples(
            httpx.get(f"{api.running.url}/api/metrics", headers={"nuvla-authn-info": ADMIN})
        )
    assert found[of("job_engine_jobs", "noop", "QUEUED")] == 1
    assert found[of("job_engine_jobs", "noop", "FAILED")] == 1
    assert found[of("job_engine_jobs", "noop", "SUCCESS")] == 0
    assert found[of("job_engine_jobs", "", "QUEUED")] == 1
    assert found[of("job_engine_jobs_pushed", "noop")] == 0
    assert found[of("job_engine_oldest_queued_seconds")] > 0
    assert found[of("job_engine_streams", "events")] == 1
    assert found[of("job_engine_streams", "changes")] == 0
    assert found[of("job_engine_claims_total", "run")] == 1
    assert found[of("job_engine_reports_total", "failed", "accepted")] == 1
    assert found[of("job_engine_reports_total", "failed", "final")] == 1
    assert found[of("process_resident_memory_bytes")] > 0


def test_how_long_runs_and_phases_took_is_told(api: Client) -> None:
    before = samples(api(ADMIN, "GET", "metrics"))
    api.add_job()
    job = api.run_job()
    ended = {"phase": "build", "state": "ended", "wall_time_s": 0.3}
    told: list[object] = [
        {"phase": "build", "state": "started"},
        ended,
        # What an action may note, which must not become a label, or a crash.
        {**ended, "phase": "made up"},
        {**ended, "phase": ["build"]},
        {**ended, "wall_time_s": "long"},
        {**ended, "wall_time_s": -1},
        [],
    ]
    notes = [{"kind": "phase", "data": json.dumps(data)} for data in told]
    notes += [{"kind": "phase", "data": "[" * 100_000}, {"kind": "test", "data": json.dumps(ended)}]
    report = {"job": job, "fence": [1, 1], "kind": "finish", "state": "SUCCESS", "events": notes}
    again = {**report, "events": notes[1:2]}  # which is refused, and so are its notes
    sent = api(EXECUTOR, "POST", "engine/report", {"executor": "e", "reports": [report, again]})
    assert sent.json()["receipts"] == ["accepted", "final"]
    found = samples(api(ADMIN, "GET", "metrics"))
    for name, *labels in (
        ("job_engine_run_seconds_count", "noop", "success"),
        ("job_engine_run_seconds_bucket", "noop", "success", "3600.0"),
        ("job_engine_phase_seconds_count", "build"),
        ("job_engine_phase_seconds_bucket", "build", "0.5"),
    ):
        assert found[of(name, *labels)] == before.get(of(name, *labels), 0) + 1
    assert found[of("job_engine_phase_seconds_bucket", "build", "0.25")] == 0
    assert sum(name == "job_engine_phase_seconds_count" for name, _ in found) == 1


@pytest.mark.parametrize(("more", "end"), [({}, "retry"), ({"away": True}, "away")])
def test_what_runs_again_has_no_verdict(api: Client, more: dict[str, bool], end: str) -> None:
    before = samples(api(ADMIN, "GET", "metrics"))
    api.add_job()
    report = {"job": api.run_job(), "fence": [1, 1], "kind": "retry", **more}
    api(EXECUTOR, "POST", "engine/report", {"executor": "e", "reports": [report]})
    found = samples(api(ADMIN, "GET", "metrics"))
    verdict = of("job_engine_run_seconds_count", "noop", "success")
    again = of("job_engine_run_seconds_count", "noop", end)
    assert found[again] == before.get(again, 0) + 1
    told = of("job_engine_reports_total", end, "accepted")
    assert found[told] == before.get(told, 0) + 1
    assert found.get(verdict) == before.get(verdict)


@pytest.mark.parametrize("who", [ANON, LMS, EXECUTOR, DISTRIBUTOR])
def test_nobody_else_reads_them(api: Client, who: str) -> None:
    reply = api(who, "GET", "metrics")
    assert reply.status_code == 403
    assert "metrics_peers" in reply.json()["message"]


@pytest.fixture(scope="module")
def open_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose metrics this machine may read."""
    configured = ApiSettings(
        data_dir=tmp_path_factory.mktemp("api"), port=0, metrics_peers=["127.0.0.1"]
    )
    with serving(configured) as running:
        yield f"{running.url}/api/metrics"


def test_an_address_that_is_named_reads_them(open_url: str) -> None:
    assert of("job_engine_oldest_queued_seconds") in samples(httpx.get(open_url))


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
def test_requests_forwarded_by_an_unknown_proxy_are_refused(open_url: str, header: str) -> None:
    assert httpx.get(open_url, headers={header: "127.0.0.1"}).status_code == 403


def test_a_trusted_proxy_names_the_client(tmp_path: Path) -> None:
    configured = ApiSettings(
        data_dir=tmp_path, port=0, metrics_peers=["10.1.0.0/16"], trusted_peers=["127.0.0.1"]
    )
    with serving(configured) as running:
        for address, status in [("10.1.2.3", 200), ("10.2.2.3", 403)]:
            headers = {"X-Forwarded-For": address}
            assert httpx.get(f"{running.url}/api/metrics", headers=headers).status_code == status
