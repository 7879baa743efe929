"""The log in the order of its numbers, although several write it and commit in any order.

A number that is missing belongs to a transaction that has not ended, or to one that was undone. The
two look alike, so where one is missing we wait until every transaction of that moment has ended;
what is not there then never comes. Only PostgreSQL has several writers at a time.
"""

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row


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
