"""Webhooks: the outbox, and which jobs have callbacks.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the outbox; existing jobs have no callbacks."""
    op.add_column(
        "jobs", sa.Column("notifies", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_table(
        "webhook_outbox",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("destination", TEXT, nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", INTEGER, nullable=False),
        sa.Column("tries_left", INTEGER, nullable=False),
        sa.Column("taken_by", TEXT),
        sa.Column("taken_incarnation", sa.BigInteger()),
        sa.Column("taken_czxid", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    for name, columns, condition in (
        ("webhook_outbox_free", ["destination", "due_ms"], "taken_by IS NULL"),
        ("webhook_outbox_taken", ["taken_by"], "taken_by IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "webhook_outbox", columns, sqlite_where=where, postgresql_where=where)
