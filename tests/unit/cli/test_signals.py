"""Stop signals reach a service in whatever moment they come."""

from __future__ import annotations

import signal
import subprocess
import sys

SERVICE = """
import threading
from job_engine.cli.signals import on_stop_signals
asked, hurry = threading.Event(), threading.Event()
on_stop_signals(asked.set, hurry.set)
print("ready", flush=True)
asked.wait()
print("asked", flush=True)
hurry.wait()
print("hurried", flush=True)
"""


def test_no_signal_is_missed_just_before_a_wait() -> None:
    """The signal comes while the main thread is on its way into a lock, again and again."""
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, text=True
        ) as service:
            assert service.stdout is not None
            for word in ("ready", "asked"):
                assert service.stdout.readline() == f"{word}\n"
                service.send_signal(signal.SIGTERM)
            assert service.stdout.readline() == "hurried\n"
            assert service.wait(10) == 0
