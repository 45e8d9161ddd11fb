"""Indexes of uploads by owner, and of actions for PostgreSQL's searches alone.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; the feed cannot use the second one."""
    op.create_index("blobs_owner", "blobs", ["owner", "size"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX jobs_searched ON jobs ((action || ''), created_ms)")
