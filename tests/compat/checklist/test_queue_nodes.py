"""Jobs and their nodes in ZooKeeper: statements 61, 65 to 67, 70, 86, 101 and 108.

Here a distributor runs, and no executor: what was pushed stays to be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.compat.checklist.conftest import Http, refused
from tests.support.engine import Engine, eventually

ENTRIES: Final = "/job/entries"


@pytest.fixture(scope="module")
def queued(engine: Engine) -> Iterator[Http]:
    """A client of the engine that pushes."""
    with Http(base_url=engine.url, timeout=30) as client:
        yield client


def pushed(http: Http, job: str) -> str:
    """Wait until a job was pushed, and return the path of its node."""

    def look() -> list[str]:
        tags: list[str] = http.read(job).get("tags", [])
        return [tag for tag in tags if tag.startswith(ENTRIES)]

    (path,) = eventually(look, what=f"{job} to be pushed")
    return str(path)


def held(nodes: KazooClient) -> dict[str, str]:
    """Which job each node of the queue holds."""
    found: dict[str, str] = {}
    for name in nodes.get_children(ENTRIES):
        with suppress(NoNodeError):  # gone meanwhile
            found[f"{ENTRIES}/{name}"] = nodes.get(f"{ENTRIES}/{name}")[0].decode()
    return found


@pytest.mark.parametrize("mode", ["push", "mixed"])
def test_065_the_node_of_a_job(queued: Http, nodes: KazooClient, mode: str) -> None:
    """Replaces statement 65: the node's name is on the document once the job was pushed."""
    job = queued.add_job(action="foreign", execution_mode=mode, tags=["mine"])
    path = pushed(queued, job)
    assert re.fullmatch(r"/job/entries/entry-\d{3}-\d{10}", path)
    assert queued.read(job)["tags"] == [path]
    assert held(nodes)[path] == job
    (found,) = queued.search(filter=f"tags='{path}'")["resources"]
    assert found["id"] == job


def test_066_pull_has_no_node(queued: Http, nodes: KazooClient) -> None:
    pulled = queued.add_job(action="foreign", execution_mode="pull", tags=["mine"])
    # What is younger and less urgent was pushed: it would have been by now.
    pushed(queued, queued.add_job(action="foreign"))
    assert pulled not in held(nodes).values()
    assert queued.read(pulled)["tags"] == ["mine"]


def test_067_priorities_are_in_the_names(queued: Http) -> None:
    """Replaces statement 67, as 65: once it was pushed."""
    for given, written in ((50, "050"), (0, "000"), (None, "999")):
        asked: dict[str, Any] = {} if given is None else {"priority": given}
        job = queued.add_job(action="foreign", **asked)
        assert pushed(queued, job).startswith(f"{ENTRIES}/entry-{written}-")


def test_070_invalid_documents_leave_no_node(queued: Http, nodes: KazooClient) -> None:
    before = held(nodes)
    for wrong in ({"priority": 1000}, {"unknown": 1}, {"progress": 50.0}):
        reply = queued.post("/api/job", json={"action": "foreign", **wrong}, headers=queued.ADMIN)
        refused(reply, 400, "does not satisfy defined schema")
    new = pushed(queued, queued.add_job(action="foreign"))
    assert held(nodes).keys() - before.keys() == {new}


def test_086_the_path_can_be_replaced(queued: Http) -> None:
    """Improves on the peer: the queue goes by a column, so the job is not lost to it (D4)."""
    job = queued.add_job(action="foreign")
    pushed(queued, job)
    edited = queued.put(f"/api/{job}", json={"tags": ["monitor"]}, headers=queued.ADMIN)
    assert edited.json()["tags"] == ["monitor"]
    assert queued.read(job)["tags"] == ["monitor"]


def test_086_an_edit_that_echoes_the_path_does_not_keep_it(queued: Http) -> None:
    job = queued.add_job(action="foreign")
    path = pushed(queued, job)
    whole: dict[str, Any] = queued.read(job)
    edited = queued.put(f"/api/{job}", json={**whole, "name": "x"}, headers=queued.ADMIN)
    assert edited.json()["tags"] == [path]


def test_101_the_node_of_a_job_that_cancels_children(queued: Http, nodes: KazooClient) -> None:
    """Replaces statement 101, as 65: once it was pushed."""
    job = queued.add_job(action="bulk_foreign")
    assert queued.post(f"/api/{job}/cancel", headers=queued.ADMIN).status_code == 200
    filter_ = f"action='cancel_children_jobs' and target-resource/href='{job}'"
    (child,) = queued.search(filter=filter_)["resources"]
    path = pushed(queued, child["id"])
    assert path.startswith(f"{ENTRIES}/entry-010-")
    assert held(nodes)[path] == child["id"]


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_108_what_is_cancelled_or_deleted_leaves_the_queue(
    queued: Http, nodes: KazooClient, how: str
) -> None:
    """Replaces statement 108: the leader takes the node out; nobody has to fetch it in vain."""
    job = queued.add_job(action="foreign")
    path = pushed(queued, job)
    if how == "cancel":
        reply = queued.post(f"/api/{job}/cancel", headers=queued.ADMIN)
    else:
        reply = queued.delete(f"/api/{job}", headers=queued.ADMIN)
    assert reply.status_code == 200
    eventually(lambda: path not in held(nodes), what=f"{path} to be gone")
