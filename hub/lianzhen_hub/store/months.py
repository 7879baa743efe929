"""The tables that grow for ever, parted by month in PostgreSQL (decision 21).

A month is made before it begins: apart from its table, and then attached, so that nobody who writes
or reads waits for it. Whatever belongs to no month that is there lies in ``<table>_other``, so that
a row is never refused for that, and moves when its month is made. SQLite has whole tables.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection

from .notices import tell

AHEAD: Final = 2
"""Months made before they begin."""

BEHIND: Final = 24
"""Months made for what comes late: a box may have been in a drawer."""

PARTS: Final = 4
"""A month of the log lies in so many parts, by a hash of the node."""

KEPT: Final = "_kept"
"""Ends the name of a month of which only what must stay is left."""

MISSING: Final = "month-missing"
"""The notice that rows of the log had to go where no month is."""

_LOCK_MS: Final = 2000
_ONE_AT_A_TIME: Final = 0x4C5A_4D4F  # an advisory lock: shards and the hub start together
_COUNTED: Final = 10_000
_DAY_MS: Final = 86_400_000


class Growing(NamedTuple):
    """A table that is parted by month. ``bound``: the first value of ``column`` in a month that
    begins at these milliseconds; ``day``: which day since 1970 a row is of. Both are SQL.
    """

    name: str
    column: str
    parts: int
    bound: Callable[[int], str]
    day: str


def _uuid_bound(ms: int) -> str:
    return f"'\\x{ms:012x}'"


LOG: Final = Growing("log", "received_ms", PARTS, str, f"received_ms / {_DAY_MS}")
RECORD: Final = Growing(
    "record",
    "id",  # a UUIDv7 begins with its time; so its month is its own, whoever brings it and when
    1,
    _uuid_bound,
    f"('x' || encode(substring(id FOR 6), 'hex'))::bit(48)::bigint / {_DAY_MS}",
)
GROWING: Final = (LOG, RECORD)


class Month(NamedTuple):
    """A month of a table that is there."""

    number: int
    name: str

    @property
    def thinned(self) -> bool:
        """Whether what may leave has left."""
        return self.name.endswith(KEPT)


def month_of(ms: int) -> int:
    """Months since the year 0, UTC."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.year * 12 + at.month - 1


def first_ms(month: int) -> int:
    """When a month begins."""
    year, index = divmod(month, 12)
    return int(datetime(year, index + 1, 1, tzinfo=UTC).timestamp() * 1000)


def keep_ahead(db: Connection, now_ms: int) -> list[str]:
    """Make the months to come, and those of rows that lie in no month; the names of new ones.

    OperationalError where somebody holds the tables: nothing was done then.
    """
    if db.dialect.name != "postgresql":
        return []
    alone(db)
    now, made = month_of(now_ms), list[str]()
    for table in GROWING:
        there = {month.number for month in months(db, table)}
        wanted = {*range(now, now + AHEAD + 1), *_strays(db, table, now)}
        made += [make(db, table, month) for month in sorted(wanted - there)]
    return made


def alone(db: Connection) -> None:
    """Until the transaction ends nobody else changes months; and none waits long for a table."""
    db.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MS}")
    db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})")


def months(db: Connection, table: Growing) -> list[Month]:
    """Those of a table that are there, in order."""
    names = db.exec_driver_sql(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = %s::text::regclass",
        (table.name,),
    ).scalars()
    found = []
    for name in names:
        words = name.removesuffix(KEPT).removeprefix(f"{table.name}_").split("_")
        if len(words) == 2:
            found.append(Month(int(words[0]) * 12 + int(words[1]) - 1, name))
    return sorted(found)


def name_of(table: Growing, month: int) -> str:
    """How its table is called."""
    year, index = divmod(month, 12)
    return f"{table.name}_{year:04d}_{index + 1:02d}"


def make(db: Connection, table: Growing, month: int) -> str:
    """Make a month, with the rows of it that had none."""
    name, other = name_of(table, month), f"{table.name}_other"
    create(db, table, name)
    begin, end = table.bound(first_ms(month)), table.bound(first_ms(month + 1))
    db.exec_driver_sql(f"LOCK TABLE {other} IN ACCESS EXCLUSIVE MODE")
    db.exec_driver_sql(
        f"WITH moved AS (DELETE FROM {other} WHERE {table.column} >= {begin}"  # noqa: S608 - our own names
        f" AND {table.column} < {end} RETURNING *) INSERT INTO {name} SELECT * FROM moved"
    )
    attach(db, table, name, month)
    return name


def create(db: Connection, table: Growing, name: str) -> None:
    """An empty month, not attached yet, with its parts and indexes."""
    parted = " PARTITION BY HASH (node)" if table.parts > 1 else ""
    like = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES"
    db.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table.name} {like}){parted}")
    for part in range(table.parts if parted else 0):
        db.exec_driver_sql(
            f"CREATE TABLE {name}_{part} PARTITION OF {name}"
            f" FOR VALUES WITH (MODULUS {table.parts}, REMAINDER {part})"
        )


def attach(db: Connection, table: Growing, name: str, month: int) -> None:
    """Let a month be one of its table."""
    begin, end = table.bound(first_ms(month)), table.bound(first_ms(month + 1))
    db.exec_driver_sql(
        f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM ({begin}) TO ({end})"
    )


def _strays(db: Connection, table: Growing, now: int) -> set[int]:
    """Months that are near enough to be meant, of rows that lie in none."""
    begin, end = (table.bound(first_ms(month)) for month in (now - BEHIND, now + AHEAD + 1))
    days = db.exec_driver_sql(
        f"SELECT DISTINCT {table.day} FROM {table.name}_other"  # noqa: S608 - our own names
        f" WHERE {table.column} >= {begin} AND {table.column} < {end}"
    ).scalars()
    return {month_of(day * _DAY_MS) for day in days}


def strays(db: Connection) -> dict[str, int]:
    """How many rows of each table lie in no month; of many, that they are many.

    Of ``record`` these are a box's whose clock was years off; of ``log`` there should be none.
    """
    if db.dialect.name != "postgresql":
        return {}
    counted = "SELECT count(*) FROM (SELECT 1 FROM {}_other LIMIT {}) AS few"
    return {
        table.name: db.exec_driver_sql(counted.format(table.name, _COUNTED)).scalar_one()
        for table in GROWING
    }


def tell_strays(db: Connection, now_ms: int) -> dict[str, int]:
    """The same, and a notice where rows of the log are among them."""
    found = strays(db)
    if found.get(LOG.name):
        detail = "rows of the log lie in no month: was the hub's clock wrong, or was it too busy?"
        tell(db, now_ms, MISSING, None, detail)
    return found
