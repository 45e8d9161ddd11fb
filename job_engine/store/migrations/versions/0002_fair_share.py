"""Fair shares, waiting times, expiry and idempotency keys.

Revision ID: 0002
Revises: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UNPUSHED = "state = 'QUEUED' AND entry IS NULL AND execution_mode != 'pull'"
READY = f"{UNPUSHED} AND not_before_ms IS NULL"
WAITING = "state = 'QUEUED' AND entry IS NOT NULL"
EXPIRING = "state = 'QUEUED' AND expiry_ms IS NOT NULL"


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Add shares and lanes, with a lane for each share that has ready jobs."""
    op.create_table(
        "shares",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "lanes",
        sa.Column("action", TEXT, nullable=False),
        sa.Column("priority", INTEGER, nullable=False),
        sa.Column("share", TEXT, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("virtual_s", sa.Float(), nullable=False),
        sa.Column("settled_s", sa.Float(), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("action", "priority", "share", "version"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "lanes_order",
        "lanes",
        ["action", "ready", "priority", "virtual_s", "share", "version"],
    )
    op.create_table(
        "frontiers",
        sa.Column("action", TEXT, nullable=False),
        sa.Column("priority", INTEGER, nullable=False),
        sa.Column("virtual_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("action", "priority"),
    )
    op.create_table(
        "starts",
        sa.Column("action", TEXT, nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=False),
        sa.Column("count", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("action", "slot"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("jobs", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key"),
    )
    op.create_index("idempotency_keys_created", "idempotency_keys", ["created_ms"])
    op.add_column("jobs", sa.Column("claimed_ms", sa.BigInteger()))
    op.drop_index("jobs_ready", "jobs")
    op.create_index(
        "jobs_ready",
        "jobs",
        ["action", "priority", "share", "version", "created_ms", "seq"],
        **_where(READY),
    )
    op.drop_index("jobs_waiting", "jobs")
    op.create_index("jobs_waiting", "jobs", ["action", "priority", "version"], **_where(WAITING))
    op.create_index("jobs_expiring", "jobs", ["state", "expiry_ms"], **_where(EXPIRING))
    op.execute(
        "INSERT INTO lanes (action, priority, share, version, virtual_s, settled_s, ready) "
        f"SELECT DISTINCT action, priority, share, version, 0.0, 0.0, true FROM jobs WHERE {READY}"
    )
