"""The result of a companion phase; shared by both backends."""

from __future__ import annotations

from dataclasses import replace

from job_engine.sandbox.base import PhaseResult, Verdict


def lived(result: PhaseResult) -> PhaseResult:
    """Return the result of a companion that was still running when its phase ended.

    That the engine killed it then is no fault; a limit that it met before, and survived, is
    reported.
    """
    if result.verdict in (Verdict.SIGNAL, Verdict.EXIT):
        return replace(result, verdict=Verdict.OK)
    return result
