"""How a companion ended: what both backends have in common."""

from __future__ import annotations

from dataclasses import replace

from job_engine.sandbox.base import PhaseResult, Verdict


def lived(result: PhaseResult) -> PhaseResult:
    """Return the result of a companion that still ran when its phase had ended.

    The engine's own kill, which ended it then, is no fault; a limit that it had met before
    (and survived) is told.
    """
    if result.verdict in (Verdict.SIGNAL, Verdict.EXIT):
        return replace(result, verdict=Verdict.OK)
    return result
