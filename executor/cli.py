"""`job-executor`: run jobs from the queue until told to stop."""

from __future__ import annotations

import logging
import os
import threading

from executor.service import Executor
from job_engine import garbage, log, open_files
from job_engine.cli.options import settings_main
from job_engine.cli.signals import on_stop_signals
from job_engine.plugins import load_actions
from job_engine.settings import ExecutorSettings


def serve(settings: ExecutorSettings) -> None:
    """Run an executor; a signal to stop drains it, and a second one skips the wait."""
    log.configure(settings.log_level, settings.log_format)
    open_files.raise_limit()
    executor = Executor(settings, load_actions(settings.actions_dir))
    hurry = threading.Event()
    on_stop_signals(executor.drain, hurry.set)
    executor.start()
    garbage.freeze()
    executor.wait()
    executor.stop(hurry)
    # The interpreter would wait for ever for a thread, or a pool of them, that an action left.
    logging.shutdown()
    os._exit(0)


main = settings_main(
    ExecutorSettings,
    serve,
    about="Run jobs from the queue until told to stop. SIGTERM drains: nothing more is "
    "claimed, running jobs may finish, the rest is given back. A second signal skips the wait.",
)
