"""Events of a job's stream, in addition to its log.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "job_notes",
        sa.Column("job_seq", BIG, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), nullable=False),
        sa.Column("n", INTEGER, nullable=False),
        sa.Column("line", INTEGER, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("staff", sa.Boolean(), nullable=False),
        sa.Column("data", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("job_seq", "n"),
        sqlite_with_rowid=False,
    )
