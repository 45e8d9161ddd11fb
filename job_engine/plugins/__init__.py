"""Actions as plugins: their base class, their context, and how they are found.

This is what plugin authors import. Nothing here starts, connects or registers
anything at import; an executor calls `load_actions` once, when it starts.
"""

from job_engine.errors import ActionFailedError, Interruption, PlatformFaultError
from job_engine.plugins.action import Action, NoPayload, Result, RetryPolicy, Schedule, action
from job_engine.plugins.context import Context
from job_engine.plugins.registry import load_actions

__all__ = [
    "Action",
    "ActionFailedError",
    "Context",
    "Interruption",
    "NoPayload",
    "PlatformFaultError",
    "Result",
    "RetryPolicy",
    "Schedule",
    "action",
    "load_actions",
]
