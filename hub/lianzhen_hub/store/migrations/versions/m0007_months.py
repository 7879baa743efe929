"""0007: PostgreSQL's log and records by month; what retention has to know.

Rows are copied month by month into new tables: it takes as much free disk as the tables have.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection

revision = "0007"
down_revision = "0006"

_LEAVING = {
    "vitals.readings": ("vitals.reading", "vitals.series"),
    "telemetry.lanes": ("telemetry.lanes",),
    "record.diagnostic": ("diagnostic.note",),
}
_FIRST, _LAST = 2020 * 12, 2100 * 12  # what is beyond lies in no month
_PARTS = 4
_DAY_MS = 86_400_000
_LOG = """
CREATE TABLE log (
    id BIGINT NOT NULL DEFAULT nextval('log_id_seq'), node VARCHAR(13) NOT NULL,
    epoch BYTEA NOT NULL, stream VARCHAR(64) NOT NULL, first BIGINT NOT NULL,
    count INTEGER NOT NULL, sealed BYTEA NOT NULL, received_ms BIGINT NOT NULL,
    PRIMARY KEY (id, received_ms, node)
) PARTITION BY RANGE (received_ms)
"""
_RECORD = """
CREATE TABLE record (
    id BYTEA NOT NULL PRIMARY KEY, node VARCHAR(13) NOT NULL, epoch BYTEA NOT NULL,
    stream VARCHAR(64) NOT NULL, seq BIGINT NOT NULL, log_id BIGINT NOT NULL,
    kind TEXT NOT NULL, created_ms BIGINT NOT NULL, received_ms BIGINT NOT NULL
) PARTITION BY RANGE (id)
"""


def upgrade() -> None:
    """Part the tables that grow, and add what says that a run of the log may leave."""
    op.add_column("mark", sa.Column("moved_from", sa.BigInteger(), nullable=True))
    op.add_column("backup_run", sa.Column("applied", sa.BigInteger(), nullable=True))
    op.create_table(
        "log_kept",
        sa.Column("log_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("log_id"),
    )
    db = op.get_bind()
    for stream, kinds in _LEAVING.items():
        named = ", ".join(f"'{kind}'" for kind in kinds)
        db.exec_driver_sql(
            "INSERT INTO log_kept (log_id) SELECT DISTINCT log_id FROM record"  # noqa: S608 - constants
            f" WHERE stream = '{stream}' AND kind NOT IN ({named})"
            " AND log_id NOT IN (SELECT log_id FROM log_kept)"
        )
    if db.dialect.name == "postgresql":
        _part_log(db)
        _part_record(db)


def _part_log(db: Connection) -> None:
    db.exec_driver_sql("ALTER TABLE log RENAME TO log_whole")
    db.exec_driver_sql("ALTER TABLE log_whole RENAME CONSTRAINT log_pkey TO log_whole_pkey")
    db.exec_driver_sql(_LOG)
    db.exec_driver_sql("ALTER SEQUENCE log_id_seq OWNED BY log.id")
    db.exec_driver_sql("CREATE TABLE log_other PARTITION OF log DEFAULT")
    day = f"received_ms / {_DAY_MS}"
    for year, month, begin, end in _months(db, "log_whole", day):
        name = f"log_{year:04d}_{month:02d}"
        db.exec_driver_sql(
            f"CREATE TABLE {name} PARTITION OF log FOR VALUES FROM ({begin}) TO ({end})"
            " PARTITION BY HASH (node)"
        )
        for part in range(_PARTS):
            db.exec_driver_sql(
                f"CREATE TABLE {name}_{part} PARTITION OF {name}"
                f" FOR VALUES WITH (MODULUS {_PARTS}, REMAINDER {part})"
            )
    db.exec_driver_sql(
        "INSERT INTO log (id, node, epoch, stream, first, count, sealed, received_ms)"
        " SELECT id, node, epoch, stream, first, count, sealed, received_ms FROM log_whole"
    )
    db.exec_driver_sql("DROP TABLE log_whole")


def _part_record(db: Connection) -> None:
    db.exec_driver_sql("ALTER TABLE record RENAME TO record_whole")
    db.exec_driver_sql(
        "ALTER TABLE record_whole RENAME CONSTRAINT record_pkey TO record_whole_pkey"
    )
    db.exec_driver_sql("ALTER INDEX record_place RENAME TO record_whole_place")
    db.exec_driver_sql(_RECORD)
    db.exec_driver_sql("CREATE INDEX record_place ON record (node, epoch, stream, seq)")
    db.exec_driver_sql("CREATE TABLE record_other PARTITION OF record DEFAULT")
    day = f"('x' || encode(substring(id FOR 6), 'hex'))::bit(48)::bigint / {_DAY_MS}"
    for year, month, begin, end in _months(db, "record_whole", day):
        db.exec_driver_sql(
            f"CREATE TABLE record_{year:04d}_{month:02d} PARTITION OF record"
            f" FOR VALUES FROM ('\\x{begin:012x}') TO ('\\x{end:012x}')"
        )
    columns = "id, node, epoch, stream, seq, log_id, kind, created_ms, received_ms"
    db.exec_driver_sql(f"INSERT INTO record ({columns}) SELECT {columns} FROM record_whole")  # noqa: S608 - constants
    db.exec_driver_sql("DROP TABLE record_whole")


def _months(db: Connection, table: str, day: str) -> list[tuple[int, int, int, int]]:
    """(year, month, first ms, first ms of the next) of all rows that have a plausible time."""
    query = f"SELECT DISTINCT {day} FROM {table} WHERE {day} BETWEEN 0 AND 100000"  # noqa: S608 - constants
    days = [
        datetime.fromtimestamp(day * _DAY_MS / 1000, UTC)
        for day in db.exec_driver_sql(query).scalars()
    ]
    numbers = sorted({at.year * 12 + at.month - 1 for at in days})
    return [
        (number // 12, number % 12 + 1, _first_ms(number), _first_ms(number + 1))
        for number in numbers
        if _FIRST <= number < _LAST
    ]


def _first_ms(number: int) -> int:
    return int(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000)
