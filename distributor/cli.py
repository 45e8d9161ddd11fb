"""`job-distributor`: push waiting jobs into the queue until told to stop."""

from __future__ import annotations

from distributor.service import Distributor
from job_engine import garbage, log, open_files
from job_engine.cli.options import settings_main
from job_engine.cli.signals import on_stop_signals
from job_engine.settings import DistributorSettings


def serve(settings: DistributorSettings) -> None:
    """Run a distributor until a signal to stop."""
    log.configure(settings.log_level, settings.log_format)
    open_files.raise_limit()
    distributor = Distributor(settings)
    on_stop_signals(distributor.ask_to_stop, distributor.ask_to_stop)
    distributor.start()
    garbage.freeze()
    distributor.wait()
    distributor.stop()


main = settings_main(
    DistributorSettings,
    serve,
    about="Push waiting jobs into the queue until told to stop. Start as many as you like: "
    "for each action one of them is elected to do it.",
)
