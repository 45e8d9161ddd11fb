"""The audit trail, and sessions that expire.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON_DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
EXPIRING = sa.text("expires_ms IS NOT NULL")


def upgrade() -> None:
    """Add the trail, and clear the names of executors, which identities replace."""
    op.create_table(
        "audit",
        sa.Column("id", BIG_SERIAL, primary_key=True, autoincrement=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("resource", TEXT),
        sa.Column("user_id", TEXT),
        sa.Column("document", JSON_DOCUMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_at", "audit", ["at_ms"])
    op.create_index("audit_resource", "audit", ["resource"])
    op.create_index("audit_user", "audit", ["user_id"])
    op.create_index(
        "resources_expiring",
        "resources",
        ["expires_ms"],
        sqlite_where=EXPIRING,
        postgresql_where=EXPIRING,
    )
    # The next claim sets the identity; until then, any executor may report on these jobs.
    op.execute("UPDATE jobs SET claimed_by = NULL WHERE claimed_by IS NOT NULL")
