"""Stop signals reach a service whatever its main thread does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

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


# Whoever runs the tests may do so under `nohup` themselves.
HEEDS_SIGHUP = ["env", "--default-signal=HUP"]

# A child that drains: it needs a while, says something meanwhile, and leaves a file at its end.
ENGINE = """
import os, sys
from job_engine.cli.up.child import Child, Output
from job_engine.cli.up.supervisor import Supervisor

DRAINS = '''
import pathlib, signal, sys, time
def drain(*_):
    for n in range(5):
        print(n, flush=True)
        time.sleep(0.1)
    pathlib.Path("drained").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
pathlib.Path("started").touch()
while True:
    signal.pause()
'''

output = Output()
supervisor = Supervisor(output)
with supervisor.signals():
    child = Child("service", [sys.executable, "-c", DRAINS], os.environ, output, stop_timeout_s=9)
    supervisor.start([child], lambda: os.path.exists("started"), 10)
    output.say("ready")
    supervisor.run()
    output.say("Stopping.")
    supervisor.stop()
"""


def test_an_engine_whose_terminal_was_closed_stops_in_order(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    engine = subprocess.Popen(
        [*HEEDS_SIGHUP, "setsid", "--ctty", sys.executable, "-c", ENGINE],
        cwd=tmp_path,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    try:
        with open(ours, "rb", buffering=0) as screen:
            assert b"ready" in screen.read(1000)
        engine.send_signal(signal.SIGHUP)  # the shell's, beside the kernel's
        assert engine.wait(20) == 0
    finally:
        engine.kill()
    assert (tmp_path / "drained").exists()


def test_nohup_lets_a_service_go_on() -> None:
    code = "from job_engine.cli.signals import stop_signals; print(len(stop_signals()))"
    for command, count in (["nohup"], "2"), (HEEDS_SIGHUP, "3"):
        done = subprocess.run(
            [*command, sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.stdout.strip() == count
