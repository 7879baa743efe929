"""The log in the order of its numbers, although several write it and commit in any order.

A number that is missing belongs to a transaction that has not ended, or to one that was undone. The
two look alike, so where one is missing we wait until every transaction of that moment has ended;
what is not there then never comes. Only PostgreSQL has several writers at a time.
"""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, literal, select, true

from lianzhen_hub.store import tables
from lianzhen_hub.store.months import first_ms, month_of


class _Hole(NamedTuple):
    """Numbers were missing below ``below`` when ``moment`` was the newest transaction."""

    below: int
    moment: int


class CommitOrder:
    """``look``, then read the log, then ``settled``: in this order, each a statement of its own."""

    def __init__(self) -> None:
        self._hole: _Hole | None = None
        self._closed = 0
        self.waits = False

    def look(self, connection: Connection) -> None:
        """Has everything ended that was under way when a number was missing?"""
        if self._hole is None:
            return
        # Whatever ended before this statement is in what the next one reads.
        oldest = connection.exec_driver_sql(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        ).scalar_one()
        if oldest > self._hole.moment:
            self._closed, self._hole = self._hole.below, None

    def settled(self, connection: Connection, after: int, rows: list[Row[Any]]) -> list[Row[Any]]:
        """Those of ``rows`` (all there are, after number ``after``) before which nothing comes."""
        self.waits = False
        if connection.dialect.name != "postgresql":
            return rows
        for at, row in enumerate(rows):
            if row.id != after + 1 and row.id > self._closed:
                self._wait(connection, rows[-1].id)
                return rows[:at]
            after = row.id
        return rows

    def _wait(self, connection: Connection, below: int) -> None:
        self.waits = True
        if self._hole is None:
            # A writer has its transaction's number before it takes one of the log, so each that
            # may still fill the hole is older than this one of ours.
            moment = connection.exec_driver_sql("SELECT pg_current_xact_id()::text::bigint")
            self._hole = _Hole(below, moment.scalar_one())


class NextRows:
    """The next rows of the log, looked for in the months where they should be, then in all.

    PostgreSQL's log is parted by the time of receipt and read by number, and a clock may have been
    set back: rows that follow on the last one are the next ones wherever others lie; with anything
    else every month is asked.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen_ms: int | None = None

    def after(self, connection: Connection, number: int, now_ms: int) -> list[Row[Any]]:
        """All rows after ``number`` in their order, ``most`` of them."""
        rows = self._find(connection, number, now_ms)
        if rows:
            self._seen_ms = rows[-1].received_ms
        return rows

    def _find(self, connection: Connection, number: int, now_ms: int) -> list[Row[Any]]:
        if connection.dialect.name != "postgresql" or self._seen_ms is None:
            return self._rows(connection, number, true())
        begin, end = first_ms(month_of(self._seen_ms)), first_ms(month_of(now_ms) + 1)
        received = tables.log.c.received_ms
        # As literals: only then is the plan one of these months alone.
        lower, upper = (literal(ms, literal_execute=True) for ms in (begin, end))
        rows = self._rows(connection, number, (received >= lower) & (received < upper))
        if rows and rows[-1].id == number + len(rows):
            return rows
        if not rows and _last_given(connection) <= number:
            return []
        return self._rows(connection, number, true())

    def _rows(
        self, connection: Connection, number: int, where: ColumnElement[bool]
    ) -> list[Row[Any]]:
        log = tables.log
        query = select(log).where(log.c.id > number, where).order_by(log.c.id).limit(self._most)
        return list(connection.execute(query))


def _last_given(connection: Connection) -> int:
    """The last number of the log that anybody took."""
    query = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM log_id_seq"
    return int(connection.exec_driver_sql(query).scalar_one())
