"""0003: the ledger; audit rows found by patient, boxes' logs, heads that were told."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables of money and of everybody's audit log."""
    _audit()
    _ledger()


def _audit() -> None:
    op.add_column("audit", sa.Column("about", sa.LargeBinary(), nullable=True))
    op.create_index("audit_about", "audit", ["about", "seq"], unique=False)
    op.create_table(
        "box_audit",
        sa.Column("node", sa.String(length=13), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("about", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("node", "seq"),
    )
    op.create_index("box_audit_about", "box_audit", ["about", "seq"], unique=False)
    op.create_table(
        "audit_end",
        sa.Column("log", sa.String(length=13), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log"),
    )
    op.create_table(
        "audit_head",
        sa.Column("log", sa.String(length=13), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("told_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", "seq", "hash"),
    )


def _ledger() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("nature", sa.String(length=16), nullable=False),
        sa.Column("debit_fen", sa.BigInteger(), nullable=False),
        sa.Column("credit_fen", sa.BigInteger(), nullable=False),
        sa.Column("pending_debit_fen", sa.BigInteger(), nullable=False),
        sa.Column("pending_credit_fen", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "debit_fen >= 0 AND credit_fen >= 0"
            " AND pending_debit_fen >= 0 AND pending_credit_fen >= 0",
            name="account_not_negative",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "transfer",
        sa.Column(
            "place",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("journal", sa.String(length=16), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("debit", sa.String(length=64), nullable=False),
        sa.Column("credit", sa.String(length=64), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("claim", sa.String(length=32), nullable=False),
        sa.Column("memo", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("of", sa.String(length=32), nullable=True),
        sa.CheckConstraint("amount_fen > 0", name="transfer_positive"),
        sa.CheckConstraint("debit <> credit", name="transfer_between_two"),
        sa.ForeignKeyConstraint(["credit"], ["account.id"]),
        sa.ForeignKeyConstraint(["debit"], ["account.id"]),
        sa.PrimaryKeyConstraint("place"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("of"),
    )
    op.create_index("ix_transfer_claim", "transfer", ["claim"], unique=False)
