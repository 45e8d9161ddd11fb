"""A foreign consumer, kazoo's own `LockingQueue`, dies after it has consumed its entry."""

from __future__ import annotations

import signal
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue

from tests.support.engine import Engine

ACTION = """\
from job_engine.plugins import Context, Result, action

@action("brief", timeout_s=1)
def brief(context: Context[None]) -> Result:
    return Result(message="by the engine")
"""


def test_the_job_of_a_dead_foreign_consumer_runs_again(tmp_path: Path, zk_hosts: str) -> None:
    actions = tmp_path / "actions"
    actions.mkdir()
    (actions / "brief.py").write_text(ACTION)
    consumer = KazooClient(zk_hosts)
    consumer.start()
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        engine.start_distributor(reconcile_s=1)
        engine.start_executor("executor", threads=1, actions_dir=actions)
        api = engine.admin()
        first = engine.submit(api, "brief")
        engine.wait_final(api, 1)
        # So that the foreign consumer is the only one that claims.
        engine.signal("executor", signal.SIGSTOP)
        job = engine.submit(api, "brief")
        queue = LockingQueue(consumer, "/job")
        assert queue.get(timeout=20) == job.encode()
        api.edit(job, {"state": "RUNNING"})
        assert queue.consume()
        consumer.stop()
        consumer.close()
        engine.signal("executor", signal.SIGCONT)
        assert engine.wait_final(api, 2) == {first: "SUCCESS", job: "SUCCESS"}
        assert api.get(job).data["status-message"] == "by the engine"
        api.close()
