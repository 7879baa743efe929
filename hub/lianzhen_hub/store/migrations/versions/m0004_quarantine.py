"""0004: records in quarantine are found by their state, their id and their kind."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add id and kind of what is held."""
    op.add_column("quarantine", sa.Column("record_id", sa.LargeBinary(), nullable=True))
    op.add_column("quarantine", sa.Column("kind", sa.Text(), nullable=True))
    op.create_index("quarantine_state", "quarantine", ["state", "log_id", "seq"], unique=False)
    op.create_index("quarantine_record", "quarantine", ["record_id"], unique=False)
