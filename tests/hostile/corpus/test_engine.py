"""A handful of the corpus through a whole engine, with its API, queue and executor around it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Final

import pytest

from job_engine.cli.assignments import upload
from job_engine.client import Api
from job_engine.errors import JobEngineError
from job_engine.queue.local import LocalZooKeeper
from job_engine.settings import SandboxSettings
from tests.conftest import require
from tests.hostile.corpus.assignments import FLAVOUR, ORDINARY, write_assignment, write_ordinary
from tests.hostile.corpus.bench import Bench
from tests.hostile.corpus.rows import load
from tests.support.engine import Engine, eventually

ROWS: Final = load()
NAMES: Final = (
    *("fork-bomb", "heap", "disk-filler", "flood", "sleeper", "tcp", "metadata"),
    *("daemon", "credentials", "results-are-a-hard-link", "kill-everything", "forge-results-split"),
)
THREADS: Final = 3


def _publish(api: Api, directory: Path) -> str:
    assignment, digest = upload(api, directory)
    api.add("assignment", {"name": assignment.name, "digest": digest})
    return digest


@pytest.mark.timeout(240)
@pytest.mark.zookeeper
def test_an_engine_grades_normally_beside_them(
    bench: Bench, settings: SandboxSettings, tmp_path: Path
) -> None:
    # Started here, and so in the tests' network.
    zookeeper = LocalZooKeeper(tmp_path / "zookeeper", sync=False)
    try:
        zookeeper.start()
    except JobEngineError as error:
        require(False, error.message)
    executor = f"e-{uuid.uuid4().hex[:8]}"
    given = {"docker_url": settings.docker_url, "default_image": settings.default_image}
    try:
        with Engine(tmp_path, zookeeper.hosts) as engine:
            bench.ears.expect(engine.port)
            bench.ears.expect(int(zookeeper.hosts.rpartition(":")[2]))
            bench.ears.forget()
            engine.start_api()
            engine.start_distributor()
            engine.start_executor(
                executor,
                threads=THREADS,
                sandbox=settings.sandbox,
                bundle_cache_dir=tmp_path / "bundles",
                flavours={"hostile": FLAVOUR},
                **{key: value for key, value in given.items() if value},
            )
            eventually(lambda: "registered" in engine.log(executor), 60)
            api = engine.admin()
            outputs = _grade(engine, api, tmp_path)
            api.close()
            assert engine.stop(executor) == 0
        assert {name for name, output in outputs.items() if _wrong(name, output)} == set()
        assert bench.desk.leftovers(executor) == []
        assert [way for name in NAMES for way in bench.ears.heard_of(name)] == []
    finally:
        zookeeper.stop()
        bench.ears.forget()


def _grade(engine: Engine, api: Api, directory: Path) -> dict[str, dict[str, Any]]:
    """Grade hostile and ordinary submissions by turns; return their results by name."""
    write_ordinary(directory / "ordinary")
    ordinary = _publish(api, directory / "ordinary")
    jobs = {}
    for name in NAMES:
        write_assignment(ROWS[name], directory / name)
        payload = {
            "assignment": _publish(api, directory / name),
            "submission": ROWS[name].submission(),
        }
        jobs[name] = engine.submit(api, "grade", payload)
        plain = {"assignment": ordinary, "submission": ORDINARY}
        jobs[f"ordinary beside {name}"] = engine.submit(api, "grade", plain)
    engine.wait_final(api, len(jobs), timeout_s=150)
    documents = {name: api.get(job).data for name, job in jobs.items()}
    failed = {name: d["status-message"] for name, d in documents.items() if d["state"] != "SUCCESS"}
    assert failed == {}
    return {name: json.loads(document["output"]) for name, document in documents.items()}


def _wrong(name: str, output: dict[str, Any]) -> bool:
    row = ROWS.get(name)
    printed = json.dumps([phase["output"] for phase in output["phases"]])
    wanted = ("graded", 1.0) if row is None else (row.outcome, row.score)
    return (output["outcome"], output["score"]) != wanted or "ESCAPED" in printed
