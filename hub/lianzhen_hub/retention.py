"""What leaves the hub's database again, by setting, and what never does (docs/operations.md).

A run of the log leaves when it is old, was applied, lies in a verified backup, is of a stream whose
records are kept elsewhere or are nobody's (``ingest.leaving``), and no record of it waits in
quarantine or was put right there. Marks and ids of records stay, so whatever comes again is known.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import Final, NamedTuple

from sqlalchemy import Connection, String, delete, exists, literal, select, tuple_

from .backup.keeping import applied_in_backup
from .ingest.leaving import LEAVING
from .store import months, tables
from .store.database import Database
from .store.months import LOG, Month

MOST: Final = 500
"""Rows in one transaction: frames wait for the same writer."""

_DAY_MS: Final = 86_400_000
_DECIDED: Final = "quarantine"  # the sheet of a person's decision


class Removed(NamedTuple):
    """What left: runs of the log, lines of the quarantine, notices."""

    runs: int = 0
    held: int = 0
    notices: int = 0


class Retention:
    """``once`` removes what is due. Days of 0: for good."""

    def __init__(self, database: Database, log_days: int, notices_days: int) -> None:
        self._database = database
        self._log_days = log_days
        self._notices_days = notices_days

    async def once(self, now_ms: int) -> Removed:
        """OperationalError where somebody holds a month: what left before it has left."""
        removed = Removed()
        if self._notices_days:
            old = partial(_notices, before_ms=now_ms - self._notices_days * _DAY_MS)
            removed = removed._replace(notices=await self._bounded(old))
        applied = await self._database.read(applied_in_backup)
        if self._log_days and applied:
            before_ms = now_ms - self._log_days * _DAY_MS
            old = partial(_released, applied=applied, before_ms=before_ms)
            removed = removed._replace(held=await self._bounded(old))
            thin = self._months if self._database.backend == "postgresql" else self._rows
            removed = removed._replace(runs=await thin(applied, before_ms))
        return removed

    async def _bounded(self, work: Callable[[Connection], int]) -> int:
        whole = gone = await self._database.write(work)
        while gone == MOST:
            gone = await self._database.write(work)
            whole += gone
        return whole

    async def _rows(self, applied: int, before_ms: int) -> int:
        whole = 0
        after: int | None = 0
        while after is not None:
            work = partial(_runs, after=after, applied=applied, before_ms=before_ms)
            gone, after = await self._database.write(work)
            whole += gone
        return whole

    async def _months(self, applied: int, before_ms: int) -> int:
        whole = 0
        for month in await self._database.read(lambda db: months.months(db, LOG)):
            if not month.thinned and months.first_ms(month.number + 1) <= before_ms:
                # On a thread and a connection of its own: what stays of a month is copied.
                whole += await asyncio.to_thread(self._month, month, applied)
        return whole

    def _month(self, month: Month, applied: int) -> int:
        with self._database.engine.begin() as db:
            return _thin(db, month, applied)


def _notices(db: Connection, before_ms: int) -> int:
    table = tables.notice
    old = select(table.c.id).where(table.c.at_ms < before_ms).limit(MOST)
    return db.execute(delete(table).where(table.c.id.in_(old))).rowcount


def _released(db: Connection, applied: int, before_ms: int) -> int:
    """Lines of records that were applied after all, by themselves. What a person decided stays, and
    so does what was dismissed: it must be known when it comes again.
    """
    table, sheet = tables.quarantine, tables.sheet.c
    place = table.c.log_id.cast(String) + literal("-") + table.c.seq.cast(String)
    decided = exists().where(sheet.kind == _DECIDED, sheet.key == place)
    old = (
        select(table.c.log_id, table.c.seq)
        .where(table.c.state == tables.RELEASED, table.c.log_id <= applied)
        .where(table.c.at_ms < before_ms, ~decided)
        .limit(MOST)
    )
    key = tuple_(table.c.log_id, table.c.seq)
    return db.execute(delete(table).where(key.in_(old))).rowcount


def _runs(db: Connection, after: int, applied: int, before_ms: int) -> tuple[int, int | None]:
    """How many left of the next rows, and the last row that was looked at; None: no more."""
    log = tables.log.c
    rows = db.execute(
        select(log.id, log.stream, log.received_ms)
        .where(log.id > after, log.id <= applied)
        .order_by(log.id)
        .limit(MOST)
    ).all()
    old = list(takewhile(lambda row: row.received_ms < before_ms, rows))
    going = [row.id for row in old if row.stream in LEAVING]
    staying: set[int] = set()
    for table in (tables.quarantine, tables.log_kept):
        needed = select(table.c.log_id).where(table.c.log_id.in_(going))
        staying |= set(db.execute(needed).scalars())
    going = [number for number in going if number not in staying]
    db.execute(delete(tables.log).where(log.id.in_(going)))
    return len(going), old[-1].id if len(old) == MOST else None


def _thin(db: Connection, month: Month, applied: int) -> int:
    """Put what stays of a month in its place; how many left. In PostgreSQL alone."""
    months.alone(db)
    query = f"SELECT count(*), max(id) FROM {month.name}"  # noqa: S608 - our own names
    count, last = db.exec_driver_sql(query).one()
    if last is not None and last > applied:
        return 0
    kept = f"{month.name}{months.KEPT}"
    months.create(db, LOG, kept)
    stay = db.exec_driver_sql(
        f"INSERT INTO {kept} SELECT * FROM {month.name} WHERE stream <> ALL (%s)"  # noqa: S608 - our own names
        " OR id IN (SELECT log_id FROM quarantine) OR id IN (SELECT log_id FROM log_kept)",
        (list(LEAVING),),
    ).rowcount
    db.exec_driver_sql(f"ALTER TABLE log DETACH PARTITION {month.name}")
    db.exec_driver_sql(f"DROP TABLE {month.name}")
    if stay:
        months.attach(db, LOG, kept, month.number)
    else:
        db.exec_driver_sql(f"DROP TABLE {kept}")
    return int(count) - stay
