"""Stop signals reach a service whatever its main thread does."""

from __future__ import annotations

import subprocess
import sys

# A signal that another thread takes does not wake the main thread out of its wait, like
# one that comes in the moment before the wait: no Python handler runs.
SERVICE = """
import signal, threading
from job_engine.cli.signals import on_stop_signals
asked, hurried = threading.Event(), threading.Event()
on_stop_signals(asked.set, hurried.set)

def take_signals():
    for seen in (asked, hurried):
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        assert seen.wait(10)

threading.Thread(target=take_signals, daemon=True).start()
assert asked.wait() and hurried.wait()
"""


def test_a_signal_is_heard_while_the_main_thread_waits() -> None:
    assert subprocess.run([sys.executable, "-c", SERVICE], timeout=20).returncode == 0
