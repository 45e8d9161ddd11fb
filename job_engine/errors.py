"""All errors of the engine, derived from one class, with a subclass for each subject.

The docstring of a class is its default message, so that none is undocumented. Interruptions
derive from `BaseException` instead, so that an action's `except Exception` cannot catch the
order to stop.
"""

from __future__ import annotations

import inspect


class JobEngineError(Exception):
    """Something went wrong in the job engine."""

    def __init__(self, message: str | None = None) -> None:
        # In one line, for logs; docstrings are wrapped.
        default = " ".join((inspect.getdoc(type(self)) or type(self).__name__).split())
        super().__init__(message or default)

    @property
    def message(self) -> str:
        """What happened, and how to fix it if that is known."""
        return str(self.args[0])

    @property
    def detail(self) -> str:
        """What happened, for the log only: it may name hosts and users of the operator's."""
        return self.message


# --- configuration and plugins ------------------------------------------------


class ConfigurationError(JobEngineError):
    """A setting is missing, or its value cannot be used."""


class MissingDependencyError(ConfigurationError):
    """An optional part is not installed; the message names what to install."""


class PluginError(JobEngineError):
    """An action plugin cannot be loaded; the message names its file."""


# --- the store and the API ----------------------------------------------------


class StoreError(JobEngineError):
    """The store could not do what was asked."""


class StoreAwayError(StoreError):
    """The store cannot answer for now; the API's log says why."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self._reason = reason

    @property
    def detail(self) -> str:
        """The database's message, for the log only."""
        return self._reason


class NotFoundError(StoreError):
    """No such resource."""


class ConflictError(StoreError):
    """The resource is in a state that does not allow this."""


class InvalidResourceError(StoreError):
    """The resource does not satisfy its schema."""


class InvalidFilterError(StoreError):
    """The CIMI filter cannot be parsed."""


class ForbiddenError(StoreError):
    """The caller has no right to do this."""


class ApiError(JobEngineError):
    """The API refused a request."""


class ApiUnavailableError(ApiError):
    """The API did not answer within the retry budget."""


# --- webhooks -----------------------------------------------------------------


class DestinationRefusedError(JobEngineError):
    """Messages may not be sent there."""


# --- the queue ----------------------------------------------------------------


class QueueError(JobEngineError):
    """The locking queue could not do what was asked."""


class QueueRefusedError(QueueError):
    """ZooKeeper refuses this user: set JOB_ENGINE_ZK_AUTH to the `user:password` whose nodes
    these are, or give this one access to them (`setAcl -R`)."""


class SessionLostError(QueueError):
    """The ZooKeeper session that this work was bound to is gone."""


class LeadershipLostError(QueueError):
    """This process is no longer the leader for the action."""


# --- sandboxes ----------------------------------------------------------------


class SandboxError(JobEngineError):
    """The sandbox broke: a fault of the platform, not of the program inside."""


class SandboxRefusedError(SandboxError):
    """The sandbox cannot give what the phase asks for, and never gives less."""


class ImageUnavailableError(SandboxError):
    """The image is not here and could not be pulled."""


# --- grading ------------------------------------------------------------------


class GradingError(JobEngineError):
    """The submission or its assignment cannot be graded."""


class ArchiveError(GradingError):
    """The archive is damaged, too large, or tries to leave its directory."""


class AssignmentError(GradingError):
    """The assignment does not follow its schema, or asks for more than policy allows."""


class SubmissionError(GradingError):
    """The submission cannot be fetched or read."""


class RepositoryAwayError(SubmissionError):
    """The repository's host does not answer, or answers that it is in trouble."""


class ReplayRefusedError(GradingError):
    """What was graded once cannot be had again as it was."""


# --- actions ------------------------------------------------------------------


class ActionFailedError(JobEngineError):
    """The action ends the job as FAILED, with this message; it is not retried."""


class PlatformFaultError(JobEngineError):
    """A fault of the platform broke the run; it is counted, and the job retried."""


class Interruption(BaseException):
    """The running action has to stop now."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class Cancelled(Interruption):
    """The job was cancelled, or ended by another party."""


class ClaimLost(Interruption):
    """The claim is no longer ours; nothing may be reported for this run."""


class Drained(Interruption):
    """The executor is stopping and gives the job back."""


class TimedOut(Interruption):
    """The action ran longer than its timeout allows."""
