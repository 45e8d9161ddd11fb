"""Audiences of jobs instead of a row for each job and principal, and numbers of jobs.

Revision ID: 0004
Revises: 0003
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from job_engine.store.access.audiences import admit, audience_of

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
BATCH = 5_000

SQLITE = (
    """
    CREATE TRIGGER jobs_tally_deleted AFTER DELETE ON jobs BEGIN
        UPDATE job_counts SET count = count - 1
        WHERE audience IN ('*', OLD.audience) AND action = OLD.action AND state = OLD.state;
        DELETE FROM job_counts
        WHERE audience = OLD.audience AND action = OLD.action AND state = OLD.state AND count = 0;
    END
    """,
)
POSTGRESQL = (
    """
    CREATE FUNCTION jobs_tally(who text, what text, how text, change bigint) RETURNS void
    LANGUAGE sql AS $$
        INSERT INTO job_counts (audience, action, state, count)
        SELECT each, what, how, change
        FROM unnest(ARRAY['*', who]) AS each ORDER BY each
        ON CONFLICT (audience, action, state)
        DO UPDATE SET count = job_counts.count + excluded.count
    $$
    """,
    """
    CREATE FUNCTION jobs_tally_deleted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM jobs_tally(audience, action, state, -count(*))
        FROM deleted GROUP BY audience, action, state ORDER BY audience, action, state;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER jobs_tally_deleted AFTER DELETE ON jobs REFERENCING OLD TABLE AS deleted "
    "FOR EACH STATEMENT EXECUTE FUNCTION jobs_tally_deleted()",
)


def upgrade() -> None:
    """Set the audience of every job, count the jobs, and add the trigger for deletions."""
    op.create_table(
        "audiences",
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("audience", TEXT, nullable=False),
        sa.Column("rights", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("principal", "audience"),
        sqlite_with_rowid=False,
    )
    op.create_index("audiences_audience", "audiences", ["audience"])
    op.create_table(
        "job_counts",
        sa.Column("audience", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("audience", "action", "state"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 50},
    )
    op.add_column("jobs", sa.Column("audience", TEXT, nullable=False, server_default=""))
    _fill(op.get_bind())
    op.create_index(
        "jobs_action",
        "jobs",
        ["action", "state", "created_ms"],
        postgresql_where=sa.text("state <> 'QUEUED'"),
    )
    op.create_index("jobs_audience", "jobs", ["audience", "created_ms"])
    given = sa.text("parent IS NOT NULL")
    op.create_index(
        "jobs_parent",
        "jobs",
        ["parent", "created_ms", "state"],
        sqlite_where=given,
        postgresql_where=given,
    )
    for statement in POSTGRESQL if op.get_bind().dialect.name == "postgresql" else SQLITE:
        op.execute(statement)


def _fill(connection: sa.Connection) -> None:
    for rows in _batches(connection):
        admit(connection, {audience_of(acl): acl for _, acl in rows})
        connection.execute(
            sa.text("UPDATE jobs SET audience = :audience WHERE seq = :seq"),
            [{"seq": seq, "audience": audience_of(acl)} for seq, acl in rows],
        )
    connection.execute(sa.text("DELETE FROM access WHERE resource LIKE 'job/%'"))
    connection.execute(
        sa.text(
            "INSERT INTO job_counts (audience, action, state, count) "
            "SELECT audience, action, state, count(*) FROM jobs GROUP BY 1, 2, 3 "
            "UNION ALL SELECT '*', action, state, count(*) FROM jobs GROUP BY 1, 2, 3"
        )
    )


def _batches(connection: sa.Connection) -> Iterator[list[tuple[int, Any]]]:
    jobs = sa.table("jobs", sa.column("seq"), sa.column("document", sa.JSON()))
    last = 0
    while True:
        query = sa.select(jobs).where(jobs.c.seq > last).order_by(jobs.c.seq).limit(BATCH)
        rows = [(row.seq, row.document["acl"]) for row in connection.execute(query)]
        if not rows:
            return
        yield rows
        last = rows[-1][0]
