"""0005: when each mark last moved, and what boxes tell of their lanes."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what the fleet's page is made from."""
    op.add_column("mark", sa.Column("committed_ms", sa.BigInteger(), nullable=True))
    op.create_table(
        "box_lane",
        sa.Column("node", sa.String(length=13), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("told_ms", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.BigInteger(), nullable=False),
        sa.Column("waiting_bytes", sa.BigInteger(), nullable=False),
        sa.Column("oldest_ms", sa.BigInteger(), nullable=True),
        sa.Column("bytes_per_s", sa.BigInteger(), nullable=False),
        sa.Column("again", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", "lane"),
    )
