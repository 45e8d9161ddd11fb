"""The domain: jobs, fences, claims, verdicts and access control lists.

Pure values and pure functions: no I/O, no clock (time is an argument), no threads.
"""

from job_engine.model.claim import EXPIRED, Ability, Answer, Claim, Decision, decide_claim
from job_engine.model.fence import Fence
from job_engine.model.job import (
    DEFAULT_PRIORITY,
    FINAL_STATES,
    MAX_INTERRUPTIONS,
    OLDEST_VERSION,
    SUPPORTED_VERSION,
    TRANSITIONS,
    ExecutionMode,
    Job,
    JobState,
)
from job_engine.model.verdict import Failure, Fault, FinalVerdict, verdict_of

__all__ = [
    "DEFAULT_PRIORITY",
    "EXPIRED",
    "FINAL_STATES",
    "MAX_INTERRUPTIONS",
    "OLDEST_VERSION",
    "SUPPORTED_VERSION",
    "TRANSITIONS",
    "Ability",
    "Answer",
    "Claim",
    "Decision",
    "ExecutionMode",
    "Failure",
    "Fault",
    "Fence",
    "FinalVerdict",
    "Job",
    "JobState",
    "decide_claim",
    "verdict_of",
]
