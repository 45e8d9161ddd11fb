"""The peer's executors beside ours, on one queue: no job lost, and one outcome each."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from kazoo.client import KazooClient
from nuvla.api import Api
from nuvla.api.api import NuvlaError

from tests.compat.peer.conftest import MakeExecutor
from tests.compat.peer.executor import Job
from tests.support.engine import Engine, eventually
from tests.support.trace import ACTIONS_DIR, read_trace

OURS: Final = "ours"


@pytest.fixture
def ours(engine: Engine, nodes: KazooClient) -> Iterator[Engine]:
    """The engine with an executor of its own, which runs `trace` and `noop`."""
    engine.start_executor(OURS, threads=3, actions_dir=ACTIONS_DIR, drain_s=1.0)
    eventually(lambda: any(name.startswith(OURS) for name in nodes.get_children("/executors")))
    yield engine
    process = engine.processes[OURS]
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        assert engine.stop(OURS) == 0


def add(api: Api, payload: dict[str, Any], action: str = "trace", **attributes: Any) -> str:
    body = {"action": action, "payload": json.dumps(payload), **attributes}
    return str(api.add("job", body).data["resource-id"])


def empty(nodes: KazooClient) -> bool:
    return not any(nodes.get_children(f"/job/{kind}") for kind in ("entries", "taken"))


def state_of(api: Api, job: str) -> str:
    return str(api.get(job).data["state"])


def wait_running(api: Api, job: str, by: str) -> None:
    """Wait until a job runs, by ours or by a peer."""

    def look() -> bool:
        found = api.get(job).data
        return bool(found["state"] == "RUNNING" and by in found["updated-by"])

    eventually(look, what=f"{job} to run")


def wait_final(api: Api, jobs: list[str], timeout_s: float = 60.0) -> Counter[str]:
    """Wait until all of the jobs have ended, and return how many did how."""
    final = ["SUCCESS", "FAILED", "CANCELED"]
    filter_ = f"id={jobs} and state={final}"
    eventually(lambda: api.search("job", filter=filter_, last=0).count == len(jobs), timeout_s)
    return Counter(state_of(api, job) for job in jobs)


def test_side_by_side(
    ours: Engine, api: Api, executor: MakeExecutor, nodes: KazooClient, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    peers = [executor({"trace": lambda _: 0}) for _ in range(2)]
    stop = threading.Event()
    threads = [threading.Thread(target=peer.run, args=(stop,)) for peer in peers]
    for thread in threads:
        thread.start()
    try:
        jobs = [add(api, {"file": str(trace), "seconds": n % 4 * 0.05}) for n in range(60)]
        assert wait_final(api, jobs) == {"SUCCESS": 60}
        eventually(lambda: empty(nodes), what="an empty queue")
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    by_ours = list(read_trace(trace))
    by_peers = [job for peer in peers for job in peer.ran]
    assert by_ours
    assert by_peers
    assert sorted([*by_ours, *by_peers]) == sorted(jobs)


def test_a_foreign_claim_clears_the_fence(ours: Engine, api: Api, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    job = add(api, {"file": str(trace), "seconds": 60})
    eventually(trace.exists)
    refusals = {
        "progress": 50,
        "state": "SUCCESS",
        "status-message": "done, I think",
        "output": "100 %",
        "return-code": 0,
    }
    for name, value in refusals.items():
        with pytest.raises(NuvlaError, match=f"edit of {name} is not allowed") as refused:
            api.edit(job, {name: value})
        assert refused.value.response.status_code == 409
    assert api.edit(job, {"name": "anything else"}).data["state"] == "RUNNING"
    # Whole documents are sent back by clients that change something else.
    assert api.edit(job, {**api.get(job).data, "description": "d"}).data["state"] == "RUNNING"
    with pytest.raises(NuvlaError, match="edit of progress"):
        api.edit(job, {"progress": 50})
    claimed = api.edit(job, {"state": "RUNNING"}).data
    assert claimed["state"] == "RUNNING"
    assert api.edit(job, {"progress": 50}).data["progress"] == 50
    # Ours learns that it lost the job, stops, and lets go of the entry, without a word.
    assert api.edit(job, {"state": "SUCCESS", "output": "theirs"}).data["output"] == "theirs"

    def still() -> bool:
        (run,) = read_trace(trace)[job]
        before = run.last_at
        threading.Event().wait(0.3)
        (run,) = read_trace(trace)[job]
        return run.last_at == before

    eventually(still, what="the run to stop")
    (run,) = read_trace(trace)[job]
    assert not run.ended
    assert (state_of(api, job), api.get(job).data["output"]) == ("SUCCESS", "theirs")


def test_a_paused_executors_job_is_taken_over_by_a_peer(
    ours: Engine, api: Api, executor: MakeExecutor, tmp_path: Path
) -> None:
    """Ours is cut off for longer than its session lasts; the peer's outcome is the one."""
    trace = tmp_path / "trace"
    job = add(api, {"file": str(trace), "seconds": 8})
    eventually(trace.exists)
    ours.signal(OURS, signal.SIGSTOP)
    peer = executor({"trace": lambda job: job.progress(40, "theirs") or 0})
    assert eventually(lambda: peer.run_one(timeout_s=2.0)) == (job, "consumed")
    ours.signal(OURS, signal.SIGCONT)
    done = api.get(job).data
    assert (done["state"], done["status-message"]) == ("SUCCESS", "theirs")
    # Once ours has come round, it runs the next one; and has changed nothing.
    other = add(api, {"file": str(tmp_path / "other")})
    assert wait_final(api, [other]) == {"SUCCESS": 1}
    assert api.get(job).data == done


def test_a_killed_peers_job_is_taken_over_by_ours(
    ours: Engine, api: Api, executor: MakeExecutor, tmp_path: Path
) -> None:
    def dies(job: Job) -> int:
        peer.zookeeper.stop()
        raise SystemExit(137)

    ours.signal(OURS, signal.SIGSTOP)  # so that it is the peer that takes it
    peer = executor({"trace": dies})
    job = add(api, {"file": str(tmp_path / "trace")})
    with pytest.raises(SystemExit):
        eventually(lambda: peer.run_one(timeout_s=2.0))
    assert state_of(api, job) == "RUNNING"
    ours.signal(OURS, signal.SIGCONT)
    assert wait_final(api, [job]) == {"SUCCESS": 1}
    with pytest.raises(NuvlaError, match="final state"):  # and the dead one comes too late
        peer.api.edit(job, {"state": "FAILED"})


def test_a_peer_loses_a_job_to_ours_and_is_told_so(
    ours: Engine, api: Api, executor: MakeExecutor, tmp_path: Path
) -> None:
    """A peer's session ends while its action goes on: what it writes then is refused (D15)."""
    trace = tmp_path / "trace"

    def loses(job: Job) -> int:
        peer.zookeeper.stop()
        ours.signal(OURS, signal.SIGCONT)
        eventually(trace.exists)
        job.progress(90)
        return 0

    ours.signal(OURS, signal.SIGSTOP)
    peer = executor({"trace": loses})
    job = add(api, {"file": str(trace), "seconds": 2})
    with pytest.raises(Exception, match="onnection"):  # letting go of what it does not hold
        eventually(lambda: peer.run_one(timeout_s=2.0))
    assert wait_final(api, [job]) == {"SUCCESS": 1}
    (run,) = read_trace(trace)[job]
    assert run.ended
    assert api.get(job).data["status-message"] == run.run


def test_ours_does_not_touch_what_only_peers_have(
    ours: Engine, api: Api, executor: MakeExecutor
) -> None:
    """Unsupported by ours: let go of, and left alone for longer and longer."""
    jobs = [str(api.add("job", {"action": "foreign"}).data["resource-id"]) for _ in range(5)]
    peer = executor({"foreign": lambda _: 0})
    while len(peer.ran) < len(jobs):
        peer.run_one(timeout_s=1.0)
    assert wait_final(api, jobs) == {"SUCCESS": 5}
    assert sorted(peer.ran) == sorted(jobs)


def test_ours_cancels_the_children_of_a_peers_bulk_job(ours: Engine, api: Api) -> None:
    """The action comes with the engine: no executor of the peer's has to be there for it."""
    bulk = str(api.add("job", {"action": "bulk_foreign"}).data["resource-id"])
    children = [
        add(api, {}, "foreign", **{"parent-job": bulk, "execution-mode": "pull"}) for _ in range(3)
    ]
    api.operation(api.get(bulk), "cancel")
    assert wait_final(api, children) == {"CANCELED": 3}
    made = api.search("job", filter=f"target-resource/href='{bulk}'").resources
    assert [job.data["action"] for job in made] == ["cancel_children_jobs"]
    assert wait_final(api, [made[0].id]) == {"SUCCESS": 1}
    assert api.get(made[0].id).data["status-message"] == "Cancelled 3 jobs."
