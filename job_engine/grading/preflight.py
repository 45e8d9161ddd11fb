"""Checks of grading's settings at the start, before a job needs them."""

from __future__ import annotations

from job_engine.grading.flavours import flavours
from job_engine.grading.secrets import load_secrets
from job_engine.settings import GradingSettings


def check_settings(settings: GradingSettings) -> None:
    """Raise `ConfigurationError` for flavours or secrets that cannot be used."""
    flavours(settings.flavours)
    if settings.git_secrets_file is not None:
        load_secrets(settings.git_secrets_file)
