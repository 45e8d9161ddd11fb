"""An index of actions for PostgreSQL's searches, which the feed cannot take for its own.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it where searches need it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX jobs_searched ON jobs ((action || ''), created_ms)")
