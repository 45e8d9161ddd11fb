"""What a plugin does wrong when it runs, and what is said of it."""

from __future__ import annotations

from pathlib import Path

from tests.support.engine import Engine

ACTIONS = """\
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from job_engine.plugins import Result, RetryPolicy, action

ONCE = RetryPolicy(max_attempts=1)


@action("exits", retry=ONCE)
def exits(context):
    sys.exit(3)


@action("endless", timeout_s=1)
def endless(context):
    while True:
        time.sleep(0.01)


@action("leaves_a_thread")
def leaves_a_thread(context):
    threading.Thread(target=time.sleep, args=(600,), daemon=False).start()
    ThreadPoolExecutor().submit(time.sleep, 600)
    return Result(message="done")
"""


def test_mistakes_in_a_plugin_fail_its_jobs(tmp_path: Path, zk_hosts: str) -> None:
    actions = tmp_path / "actions"
    actions.mkdir()
    (actions / "wrong.py").write_text(ACTIONS)
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start(actions_dir=actions, threads=1)
        api = engine.admin()
        exits = engine.submit(api, "exits")
        engine.wait_final(api, 1)
        message = api.get(exits).data["status-message"]
        assert message.endswith("given up after 1 attempts. The last one ended with: SystemExit(3)")
        assert "job.raised" in engine.log("executor")

        # One executor ends with it, and not each that would run it again.
        endless = engine.submit(api, "endless")
        assert engine.processes["executor"].wait(20) == 86
        document = api.get(endless).data
        assert document["state"] == "FAILED"
        assert document["status-message"] == "The action ran longer than its timeout of 1 s."

        engine.start_executor("another", actions_dir=actions)
        engine.submit(api, "leaves_a_thread")
        engine.wait_final(api, 3)
        assert engine.stop("another") == 0
        api.close()
