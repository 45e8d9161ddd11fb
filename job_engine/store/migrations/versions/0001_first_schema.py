"""The first schema.

Revision ID: 0001
Revises:
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UNPUSHED = "state = 'QUEUED' AND entry IS NULL AND execution_mode != 'pull'"
JSON_DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Create every table of the first release."""
    op.create_table(
        "access",
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("resource", TEXT, nullable=False),
        sa.Column("rights", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("principal", "resource"),
        sqlite_with_rowid=False,
    )
    op.create_index("access_resource", "access", ["resource"], unique=False)
    op.create_table(
        "actions",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", JSON_DOCUMENT, nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "owner"),
    )
    op.create_table(
        "counters",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "events",
        sa.Column("id", BIG_SERIAL, autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("job", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("priority", INTEGER, nullable=False),
        sa.Column("entry", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "jobs",
        sa.Column("seq", BIG_SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("priority", INTEGER, nullable=False),
        sa.Column("given_priority", INTEGER, nullable=True),
        sa.Column("execution_mode", TEXT, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("progress", INTEGER, nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=True),
        sa.Column("expiry_ms", sa.BigInteger(), nullable=True),
        sa.Column("status_changed_ms", sa.BigInteger(), nullable=True),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=True),
        sa.Column("entry", TEXT, nullable=True),
        sa.Column("share", TEXT, nullable=False),
        sa.Column("fence_incarnation", sa.BigInteger(), nullable=True),
        sa.Column("fence_czxid", sa.BigInteger(), nullable=True),
        sa.Column("resumed", sa.Boolean(), nullable=False),
        sa.Column("claimed_by", TEXT, nullable=True),
        sa.Column("attempts", INTEGER, nullable=False),
        sa.Column("interruptions", INTEGER, nullable=False),
        sa.Column("parent", TEXT, nullable=True),
        sa.Column("parent_job", TEXT, nullable=True),
        sa.Column("target_href", TEXT, nullable=True),
        sa.Column("created_by", TEXT, nullable=True),
        sa.Column("updated_by", TEXT, nullable=True),
        sa.Column("scheduled_tick_ms", sa.BigInteger(), nullable=True),
        sa.Column("return_code", sa.BigInteger(), nullable=True),
        sa.Column("duration", sa.BigInteger(), nullable=True),
        sa.Column("document", JSON_DOCUMENT, nullable=False),
        sa.Column("status_message", TEXT, nullable=True),
        sa.Column("payload", TEXT, nullable=True),
        sa.Column("output", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_created", "jobs", ["created_ms"], unique=False)
    op.create_index(
        "jobs_entries",
        "jobs",
        ["action", "id"],
        unique=False,
        **_where(
            "state IN ('QUEUED', 'RUNNING') AND entry IS NOT NULL AND execution_mode != 'pull'"
        ),
    )
    op.create_index(
        "jobs_parent_job", "jobs", ["parent_job"], unique=False, **_where("parent_job IS NOT NULL")
    )
    op.create_index(
        "jobs_ready",
        "jobs",
        ["action", "priority", "created_ms", "seq"],
        unique=False,
        **_where(f"{UNPUSHED} AND not_before_ms IS NULL"),
    )
    op.create_index(
        "jobs_retrying",
        "jobs",
        ["action", "not_before_ms"],
        unique=False,
        **_where(f"{UNPUSHED} AND not_before_ms IS NOT NULL"),
    )
    op.create_index(
        "jobs_scheduled_once",
        "jobs",
        ["action"],
        unique=True,
        **_where("scheduled_tick_ms IS NOT NULL AND state IN ('QUEUED', 'RUNNING')"),
    )
    op.create_index("jobs_state_created", "jobs", ["state", "created_ms"], unique=False)
    op.create_index(
        "jobs_target", "jobs", ["target_href"], unique=False, **_where("target_href IS NOT NULL")
    )
    op.create_index(
        "jobs_tick",
        "jobs",
        ["action", "scheduled_tick_ms"],
        unique=True,
        **_where("scheduled_tick_ms IS NOT NULL"),
    )
    op.create_index(
        "jobs_waiting",
        "jobs",
        ["action", "priority"],
        unique=False,
        **_where("state = 'QUEUED' AND entry IS NOT NULL"),
    )
    op.create_table(
        "resources",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("document", JSON_DOCUMENT, nullable=False),
        sa.Column("secret", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("resources_created", "resources", ["type", "created_ms"], unique=False)
    op.create_index("resources_key", "resources", ["type", "key"], unique=True)
    op.create_table(
        "schedules",
        sa.Column("action", TEXT, nullable=False),
        sa.Column("last_tick_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("action"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "job_log",
        sa.Column("job_seq", BIG_SERIAL, nullable=False),
        sa.Column("n", INTEGER, autoincrement=False, nullable=False),
        sa.Column("line", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["jobs.seq"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_seq", "n"),
        sqlite_with_rowid=False,
    )
