"""Which errors of PostgreSQL say what became of a transaction."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors as pg

from job_engine.errors import StoreAwayError
from job_engine.store.pipeline import BatchError
from job_engine.store.postgres.errors import explained, was_before_the_commit


@pytest.mark.parametrize(
    ("error", "before"),
    [
        (BatchError(pg.AdminShutdown()), True),
        (BatchError(pg.CrashShutdown()), True),
        (pg.AdminShutdown(), False),  # of the commit
        (pg.IdleInTransactionSessionTimeout(), True),
        (BatchError(pg.ProtocolViolation("server conn crashed?")), False),  # a pooler says so
        (BatchError(psycopg.OperationalError("the connection is lost")), False),
        (psycopg.OperationalError("the connection is lost"), False),
    ],
)
def test_only_the_server_itself_knows_that_nothing_was_committed(
    error: Exception, before: bool
) -> None:
    assert was_before_the_commit(error) is before


def test_nobody_but_the_log_is_told_what_libpq_said() -> None:
    said = 'connection to server at "10.0.0.5" failed: FATAL:  no pg_hba.conf entry for user "ada"'
    told = explained(sa.exc.OperationalError("SELECT 1", {}, psycopg.OperationalError(said)))
    assert isinstance(told, StoreAwayError)
    assert told.message == "The store cannot answer for now; the API's log says why."
    assert told.detail == said
