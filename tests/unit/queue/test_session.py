"""The clock of a ZooKeeper session, without a server."""

from __future__ import annotations

import time

from job_engine.queue.session import ZooKeeperSession


def test_a_session_that_is_stopped_is_not_lost() -> None:
    session = ZooKeeperSession("127.0.0.1:9", 4.0)
    lost: list[str] = []
    session.on_lost(lambda: lost.append("lost"))
    session._connection.granted_s = 4.0
    session._note_answer(1, time.monotonic())
    assert session.holds(1)
    session.stop()
    # The answer to a request that was on its way, and the clock's last look.
    session._note_answer(1, time.monotonic())
    session._check_clock()
    assert not session.alive()
    assert not lost
