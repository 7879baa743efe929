"""Every table of the hub. Migrations (``migrations/versions``) are append-only and make these.

Times are milliseconds since 1970, UTC. Sealed columns hold ``lianzhen_protocol.sealing`` blobs.
In PostgreSQL ``log`` and ``record`` are partitioned (``months``): the log's key is there (id,
received_ms, node), and nothing but the mark lets a run in once (decision 21).
There are no foreign keys across streams: a record may arrive before what it refers to.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite counts only INTEGER PRIMARY KEY up by itself.
_Counter = BigInteger().with_variant(Integer, "sqlite")

# -- fleet: who may speak

claim = Table(
    "claim",
    metadata,
    Column("box", String(32), primary_key=True),
    Column("clinic", Text, nullable=False),
    Column("key_sealed", LargeBinary),  # gone once the claim is used
    Column("expires_ms", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("used_spki", LargeBinary),
    Column("node", String(13)),
)

node = Table(
    "node",
    metadata,
    Column("id", String(13), primary_key=True),
    Column("box", String(32), nullable=False),
    Column("clinic", Text, nullable=False),
    Column("status", String(16), nullable=False),  # active | revoked
    Column("enrolled_ms", BigInteger, nullable=False),
)

certificate = Table(
    "certificate",
    metadata,
    Column("serial", String(40), primary_key=True),
    Column("node", String(13), nullable=False, index=True),
    Column("spki_sha256", LargeBinary, nullable=False),
    Column("not_after_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # issued | current | superseded | revoked
    Column("revoked_ms", BigInteger),
    Column("pem", Text, nullable=False),
)

approval = Table(
    "approval",
    metadata,
    Column("spki_sha256", LargeBinary, primary_key=True),
    Column("node", String(13), nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # waiting | approved | refused
    Column("reason", Text, nullable=False),
)

presence = Table(
    "presence",
    metadata,
    Column("node", String(13), nullable=False),
    Column("session_group", String(8), nullable=False),
    Column("state", String(8), nullable=False),  # online | offline
    Column("instance", LargeBinary, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("software", Text, nullable=False),
    PrimaryKeyConstraint("node", "session_group"),
)

# -- ingest: what they said, as they said it

data_key = Table(
    "data_key",
    metadata,
    Column("epoch", LargeBinary, primary_key=True),
    Column("kek_version", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

epoch = Table(
    "epoch",
    metadata,
    Column("node", String(13), nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("parent", LargeBinary),
    Column("reason", Text),
    Column("seen_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("node", "epoch"),
)

log = Table(
    "log",
    metadata,
    Column("id", _Counter, primary_key=True, autoincrement=True),
    Column("node", String(13), nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("stream", String(64), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # msgpack array of records, zstd
    Column("received_ms", BigInteger, nullable=False),
    UniqueConstraint("node", "epoch", "stream", "first"),
    sqlite_autoincrement=True,
)

mark = Table(
    "mark",
    metadata,
    Column("node", String(13), nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("stream", String(64), nullable=False),
    Column("committed", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("safe", BigInteger, nullable=False),
    Column("committed_ms", BigInteger),  # when it last moved
    Column("moved_from", BigInteger),  # and from where: who reads less than that is too late
    PrimaryKeyConstraint("node", "epoch", "stream"),
)

box_lane = Table(  # what each box last told of its lanes (protocol.telemetry)
    "box_lane",
    metadata,
    Column("node", String(13), nullable=False),
    Column("lane", String(16), nullable=False),
    Column("told_ms", BigInteger, nullable=False),  # by the box's clock
    Column("waiting", BigInteger, nullable=False),
    Column("waiting_bytes", BigInteger, nullable=False),
    Column("oldest_ms", BigInteger),
    Column("bytes_per_s", BigInteger, nullable=False),
    Column("again", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    PrimaryKeyConstraint("node", "lane"),
)

# -- projection: what it means

cursor = Table(
    "cursor",
    metadata,
    Column("projection", String(32), primary_key=True),
    Column("log_id", BigInteger, nullable=False),
)

record = Table(
    "record",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("node", String(13), nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("stream", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("log_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("record_place", "node", "epoch", "stream", "seq"),
)

HELD, RELEASED, DISMISSED = "held", "released", "dismissed"
"""States of a quarantined record."""

quarantine = Table(
    "quarantine",
    metadata,
    Column("log_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("node", String(13), nullable=False),
    Column("stream", String(64), nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String(16), nullable=False),  # held | released | dismissed
    Column("at_ms", BigInteger, nullable=False),
    Column("record_id", LargeBinary),  # where the envelope could be read
    Column("kind", Text),
    PrimaryKeyConstraint("log_id", "seq"),
    Index("quarantine_state", "state", "log_id", "seq"),
    Index("quarantine_record", "record_id"),
)

log_kept = Table(  # runs of a stream whose runs may leave, with a record that is nowhere else
    "log_kept",
    metadata,
    Column("log_id", BigInteger, primary_key=True, autoincrement=False),
)

# -- what goes down

down_stream = Table(
    "down_stream",
    metadata,
    Column("node", String(13), nullable=False),
    Column("stream", String(64), nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("lane", Integer, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
    Column("committed", BigInteger, nullable=False),  # the box has it
    Column("purged", BigInteger, nullable=False),  # deleted here up to this one
    Column("purged_hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("node", "stream"),
)

down = Table(
    "down",
    metadata,
    Column("node", String(13), nullable=False),
    Column("stream", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    PrimaryKeyConstraint("node", "stream", "seq"),
)

# -- what the records come to

sheet = Table(
    "sheet",
    metadata,
    Column("kind", String(32), nullable=False),
    Column("key", String(128), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("state", String(32), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    PrimaryKeyConstraint("kind", "key"),
    Index("sheet_owner", "kind", "owner", "at_ms"),
    Index("sheet_state", "kind", "state", "at_ms"),
)

sheet_token = Table(
    "sheet_token",
    metadata,
    Column("kind", String(32), nullable=False),
    Column("token", LargeBinary, nullable=False),
    Column("key", String(128), nullable=False),
    PrimaryKeyConstraint("kind", "token", "key"),
    Index("sheet_token_key", "kind", "key"),
)

secret = Table(
    "secret",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("about", LargeBinary),  # token of the patient's id
    Index("audit_about", "about", "seq"),
)

box_audit = Table(  # what boxes told of their own logs
    "box_audit",
    metadata,
    Column("node", String(13), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("about", LargeBinary),
    PrimaryKeyConstraint("node", "seq"),
    Index("box_audit_about", "about", "seq"),
)

audit_end = Table(  # where a log's writer left it
    "audit_end",
    metadata,
    Column("log", String(13), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

audit_head = Table(  # what was told of a log
    "audit_head",
    metadata,
    Column("log", String(13), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("told_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("log", "seq", "hash"),
)

# -- money: the double-entry ledger (protocol.ledger)

account = Table(
    "account",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("nature", String(16), nullable=False),  # asset | liability | income | expense
    Column("debit_fen", BigInteger, nullable=False),
    Column("credit_fen", BigInteger, nullable=False),
    Column("pending_debit_fen", BigInteger, nullable=False),
    Column("pending_credit_fen", BigInteger, nullable=False),
    CheckConstraint(
        "debit_fen >= 0 AND credit_fen >= 0 AND pending_debit_fen >= 0 AND pending_credit_fen >= 0",
        name="account_not_negative",
    ),
)

transfer = Table(
    "transfer",
    metadata,
    Column("place", _Counter, primary_key=True, autoincrement=True),  # in order of entry
    Column("id", String(32), nullable=False, unique=True),
    Column("journal", String(16), nullable=False),  # settlement | pay
    Column("step", String(16), nullable=False),  # direct | pending | post | void | reverse
    Column("debit", String(64), ForeignKey("account.id"), nullable=False),
    Column("credit", String(64), ForeignKey("account.id"), nullable=False),
    Column("amount_fen", BigInteger, nullable=False),
    Column("claim", String(32), nullable=False, index=True),
    Column("memo", String(32), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("of", String(32), unique=True),  # a transfer is posted, voided or reversed once
    CheckConstraint("amount_fen > 0", name="transfer_positive"),
    CheckConstraint("debit <> credit", name="transfer_between_two"),
)

# -- backups that were made, and restored

backup_run = Table(
    "backup_run",
    metadata,
    Column("id", _Counter, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),  # backup | restore
    Column("name", String(32), nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("applied", BigInteger),  # every row of the log up to this one is in it, and applied
)

# -- what an admin is told

notice = Table(
    "notice",
    metadata,
    Column("id", _Counter, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("node", String(13)),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
)
