"""The base class of actions, and their attributes: payload, timeout, retries, schedule."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from job_engine.plugins.context import Context

P = TypeVar("P", bound=BaseModel)


class NoPayload(BaseModel):
    """The payload of actions that take none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how soon a job is retried after a run that ended without a result: by a
    platform fault, or because a repository's host did not answer."""

    max_attempts: int = 3
    """Number of such runs after which the job is FAILED."""
    backoff_s: float = 5.0
    """Seconds to wait after the first fault; doubled after each further one."""
    max_backoff_s: float = 300.0
    """Longest wait, in seconds."""
    jitter: float = 0.25
    """Fraction, 0 to 1, of a wait that is left out at random, so that jobs which failed at the
    same time are not retried at the same time."""

    def delay_s(self, attempts: int, luck: float = 0.0) -> float:
        """Seconds to wait after the given number of faults (1 or more).

        `luck` is a random number from 0 to 1 that the caller draws; 0 means the whole wait.
        """
        # Bounded, because a float overflows after about a thousand doublings.
        whole_s = min(self.backoff_s * 2.0 ** min(attempts - 1, 64), self.max_backoff_s)
        return whole_s * (1.0 - self.jitter * luck)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When the leader creates a job of this action; exactly one of the two is set."""

    interval_s: float | None = None
    cron: str | None = None
    """A five-field cron line, in UTC."""

    def __post_init__(self) -> None:
        if (self.interval_s is None) == (self.cron is None):
            raise ValueError("a schedule has either interval_s or cron")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of an action. A `return_code` other than 0 makes the job FAILED."""

    return_code: int = 0
    message: str | None = None
    """For `status-message`: one line for a person."""
    output: str | None = None
    """For `output`: text or JSON, up to the API's limit."""


class Action(ABC, Generic[P]):
    """One kind of job. An instance holds no state of a run: many threads share it."""

    name: ClassVar[str]
    """The name in the attribute `action` of its jobs; a bundled action's file has the same name."""
    payload: ClassVar[type[BaseModel]] = NoPayload
    """The type of its payloads; its JSON Schema is published to the API."""
    timeout_s: ClassVar[float] = 3600.0
    """Longest a run may take, in seconds; then it is interrupted and the job FAILED."""
    retry: ClassVar[RetryPolicy] = RetryPolicy()
    retry_away: ClassVar[RetryPolicy | None] = None
    """The policy for a repository's host that is away (`RepositoryAwayError`); None: `retry`."""
    cost: ClassVar[float] = 1.0
    """Expected cost of one run for fair share, in thread seconds."""
    short: ClassVar[bool] = False
    """Whether a run takes milliseconds; executors then prefetch such jobs."""
    schedule: ClassVar[Schedule | None] = None
    restricted: ClassVar[bool] = False
    """Whether only administrators (and its schedule) may create jobs of it."""
    needs: ClassVar[tuple[type[Any], ...]] = ()
    """Collaborators for `Context.need`; executors that lack one of them do not run the action."""

    def terms(self, collaborators: Mapping[type[Any], object]) -> dict[str, Any]:
        """Return what this executor's operator allows in payloads, as JSON; by default nothing.

        It is published to the API, which then refuses at once what a run would refuse.
        `collaborators` has everything that the action `needs`.
        """
        return {}

    @abstractmethod
    def run(self, context: Context[P]) -> Result | None:
        """Do the job; None means success with nothing to add.

        Raise `ActionFailedError` to fail the job with a message for its creator. A
        `GradingError` and a `SandboxRefusedError` fail it too. Raise `PlatformFaultError` (or
        let any other `SandboxError` through) for a fault that is not the job's: it is counted,
        and the job is retried by the action's policy. Any other exception counts as such a
        fault, except `ApiUnavailableError`, after which the job is given back uncounted.
        """


def action(
    name: str,
    *,
    payload: type[BaseModel] = NoPayload,
    timeout_s: float = Action.timeout_s,
    retry: RetryPolicy = Action.retry,
    retry_away: RetryPolicy | None = Action.retry_away,
    cost: float = Action.cost,
    short: bool = False,
    schedule: Schedule | None = None,
    restricted: bool = False,
    needs: tuple[type[Any], ...] = (),
) -> Callable[[Callable[[Context[Any]], Result | None]], Action[Any]]:
    """Make an action from a function; the arguments are the attributes of `Action`.

    The decorator raises `TypeError` unless it decorates a function of one argument.
    """
    if not isinstance(name, str):
        raise TypeError('the decorator takes the action\'s name: @action("count_words")')

    def make(function: Callable[[Context[Any]], Result | None]) -> Action[Any]:
        _require_runnable(function)
        body = {
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "name": name,
            "payload": payload,
            "timeout_s": timeout_s,
            "retry": retry,
            "retry_away": retry_away,
            "cost": cost,
            "short": short,
            "schedule": schedule,
            "restricted": restricted,
            "needs": needs,
            "run": lambda _self, context: function(context),
        }
        made: Action[Any] = type(function.__name__, (Action,), body)()
        return made

    return make


def _require_runnable(function: object) -> None:
    if not inspect.isfunction(function):
        raise TypeError(f"@action goes above a function, not above {function!r}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__name__} is async; an action is a plain function, in a thread")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise TypeError(f"{function.__name__} has to take one argument, the context") from None
