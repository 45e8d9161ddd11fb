"""What went wrong with PostgreSQL: whether to try again, and what somebody is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psycopg
import sqlalchemy as sa
from psycopg import errors as pg
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from job_engine.errors import InvalidResourceError, JobEngineError, StoreError
from job_engine.store.base import T
from job_engine.store.postgres.connections import READ_LIMIT_S
from job_engine.store.sending import BatchError, LateError

FIRST_WAIT_S: Final = 0.05
"""Seconds, at most, until it is tried a second time."""
ATTEMPTS: Final = 5
"""How often a transaction is tried that the server gave up, or that lost its connection."""


class ConnectionLostError(StoreError):
    """The connection to the database was lost, and with it what was not committed."""


class OutcomeUnknownError(StoreError):
    """The connection was lost while the database committed; ask again to see what is there."""


def persistently(attempt: Callable[[], T], which: Callable[[BaseException], bool]) -> T:
    """Try, and some times more after an error of `which`."""
    again = Retrying(
        retry=retry_if_exception(which),
        stop=stop_after_attempt(ATTEMPTS),
        # At once, it would meet again whom it has just made way for.
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=2.0),
        reraise=True,
    )
    return again(attempt)


def cause_of(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    if isinstance(error, BatchError):
        return cause_of(error.cause)
    return error.orig or error if isinstance(error, sa.exc.DBAPIError) else error


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or there was none to be had."""
    cause = cause_of(error)
    if isinstance(cause, ConnectionLostError | pg.IdleInTransactionSessionTimeout):
        return True
    if not isinstance(cause, psycopg.OperationalError) or isinstance(cause, pg.QueryCanceled):
        return False
    return cause.sqlstate is None or cause.sqlstate[:2] in ("08", "57")


def undoes_all(error: BaseException) -> bool:
    """Whether with a unit all of its transaction is over, and not only that part of it."""
    return isinstance(error, BatchError) or _is_given_up(error)


def _is_given_up(error: BaseException) -> bool:
    return isinstance(
        cause_of(error), ConnectionLostError | pg.SerializationFailure | pg.DeadlockDetected
    )


def may_run_again(error: BaseException) -> bool:
    """Whether nothing was committed, for a reason that may have passed."""
    return isinstance(error, LateError) or _is_given_up(error) or is_lost(error)


def reason_of(error: Exception) -> str:
    """Say what the server said, without statements and values."""
    cause = cause_of(error)
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return cause.diag.message_primary
    return str(cause).strip()


def explained(error: Exception) -> Exception:
    """Return what somebody is told who asked for what failed so."""
    cause = cause_of(error)
    match cause:
        case sa.exc.TimeoutError():
            return StoreError(
                "The store is busy: too many searches at once. Try again in a moment."
            )
        case pg.QueryCanceled():
            return StoreError(
                f"The search took longer than {READ_LIMIT_S:.0f} s; narrow it, by `created` "
                "for one."
            )
        case pg.LockNotAvailable():
            return StoreError("The store is locked by another process that writes.")
        case psycopg.DataError():
            return InvalidResourceError(f"This cannot be stored: {reason_of(error)}")
        case psycopg.IntegrityError() | JobEngineError():
            return error
        case psycopg.Error():
            return StoreError(f"The store cannot answer: {reason_of(error)}")
    return error
