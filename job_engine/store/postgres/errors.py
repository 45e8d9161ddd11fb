"""Errors of PostgreSQL: which of them to retry, and what callers see of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

import psycopg
import sqlalchemy as sa
from psycopg import errors as pg
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from job_engine.errors import InvalidResourceError, JobEngineError, StoreAwayError, StoreError
from job_engine.store.base import T
from job_engine.store.pipeline import BatchError, ForgottenError, LateError
from job_engine.store.postgres.connections import READ_LIMIT_S

FIRST_WAIT_S: Final = 0.05
"""Longest delay, in seconds, before the second attempt."""
ATTEMPTS: Final = 5
"""Attempts of a transaction that the server aborted, or that lost its connection."""


class ConnectionLostError(StoreError):
    """The connection to the database was lost, and with it what was not committed."""


class OutcomeUnknownError(StoreError):
    """The connection was lost while the database committed; ask again to see what is there."""


def persistently(attempt: Callable[[], T], which: Callable[[BaseException], bool]) -> T:
    """Call `attempt`, and repeat it after errors for which `which` is true."""
    try:
        return attempt()  # of itself: `Retrying` costs as much as a small read
    except Exception as error:
        if not which(error):
            raise
    again = Retrying(
        retry=retry_if_exception(which),
        stop=stop_after_attempt(ATTEMPTS - 1),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=2.0),
        reraise=True,
    )
    # With a delay, or it would collide with the same transaction again.
    time.sleep(random.uniform(0, FIRST_WAIT_S))
    return again(attempt)


def cause_of(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    if isinstance(error, BatchError):
        return cause_of(error.cause)
    return error.orig or error if isinstance(error, sa.exc.DBAPIError) else error


def is_lost(error: BaseException) -> bool:
    """Return whether the connection was lost, or could not be made."""
    cause = cause_of(error)
    if isinstance(cause, ConnectionLostError | pg.IdleInTransactionSessionTimeout):
        return True
    if not isinstance(cause, psycopg.OperationalError) or isinstance(cause, pg.QueryCanceled):
        return False
    return cause.sqlstate is None or cause.sqlstate[:2] in ("08", "57")


def was_before_the_commit(error: Exception) -> bool:
    """Return whether PostgreSQL itself reported, before the commit, that it ends the connection.

    A pooler's report of a lost server may come before pending answers, so it proves nothing.
    """
    cause = cause_of(error)
    if isinstance(cause, pg.IdleInTransactionSessionTimeout):
        return True
    ended = isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith("57P")
    return ended and isinstance(error, BatchError)


def undoes_all(error: BaseException) -> bool:
    """Return whether an error of one unit has ended the whole transaction."""
    return isinstance(error, BatchError) or _is_given_up(error)


def _is_given_up(error: BaseException) -> bool:
    return isinstance(
        cause_of(error), ConnectionLostError | pg.SerializationFailure | pg.DeadlockDetected
    )


def may_run_again(error: BaseException) -> bool:
    """Return whether nothing was committed, for a reason that may be temporary."""
    return isinstance(error, LateError | ForgottenError) or _is_given_up(error) or is_lost(error)


def reason_of(error: Exception) -> str:
    """Return the server's message, without statements and values."""
    cause = cause_of(error)
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return cause.diag.message_primary
    return str(cause).strip()


def explained(error: Exception) -> Exception:
    """Return the error that the caller of a failed unit gets."""
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
            # The reason is for the log only: it may name hosts and users.
            return StoreAwayError(reason_of(error))
    return error
