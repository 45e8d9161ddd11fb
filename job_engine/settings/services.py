"""Settings of executors and distributors."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Final

from pydantic import Field

from job_engine.settings.connections import NAME, ServiceSettings
from job_engine.settings.grading import GradingSettings
from job_engine.settings.sandbox import SandboxSettings
from job_engine.settings.webhooks import WebhookSettings

STOP_GRACE_S: Final = 10.0
"""Longest time, in seconds, that a service takes to end after SIGTERM, whatever hangs; for an
executor, after its drain (`drain_s`)."""


class ExecutorSettings(ServiceSettings, SandboxSettings, GradingSettings, WebhookSettings):
    """Settings of an executor."""

    name: str = Field(
        default_factory=socket.gethostname,
        pattern=NAME,
        description="Name of this executor: unique on its machine, and the same at every start, "
        "because what an interrupted run left behind is found by it.",
    )
    threads: int = Field(4, ge=1, le=256, description="Jobs that run at once.")
    actions_dir: Path | None = Field(
        None, description="Directory of Python files with further actions."
    )
    warm_slots: int = Field(
        4,
        ge=0,
        description="Sandbox slots that are prepared in advance and kept ready, at most; 0: none.",
    )
    warm_memory_bytes: int = Field(
        512 * 2**20, ge=0, description="Memory that waiting slots may take together, by estimate."
    )
    drain_s: float = Field(
        120.0,
        ge=0,
        description="Seconds that running jobs get to finish after SIGTERM; then they are "
        "given back.",
    )
    scratch_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / f"job-engine-{os.getuid()}",
        description="Where actions get their private scratch directories.",
    )


class DistributorSettings(ServiceSettings):
    """Settings of a distributor."""

    actions: list[str] = Field(
        [], description="Actions to distribute; empty: all that a live executor has."
    )
    foreign_actions: list[str] = Field(
        [],
        description="Actions that other consumers of the queue run, which do not register, such "
        "as executors of the Nuvla job engine; they are distributed in any case.",
    )
    reconcile_s: float = Field(
        60.0, gt=0, description="Seconds between comparisons of the store with the queue."
    )
    poll_s: float = Field(
        5.0, gt=0, description="Seconds between polls of the API while no event reports work."
    )
    orphan_grace_s: float = Field(
        60.0,
        ge=0,
        description="Seconds after which a job is failed whose action no live executor has.",
    )
