"""A reader's view of a hub's database: what is committed, from outside of the hub."""

import sqlite3
from typing import Any

import psycopg

_SQLITE = "sqlite:///"


class HubView:
    """Reads one stream's counters from its tables: log, mark, record."""

    def __init__(self, url: str, stream: str) -> None:
        self._stream = stream
        self._connection: Any
        if url.startswith(_SQLITE):
            path = url.removeprefix(_SQLITE)
            self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
            self._connection.isolation_level = None
            self._sign = "?"
        else:
            self._connection = psycopg.connect(url, autocommit=True)
            self._sign = "%s"

    def committed(self) -> int:
        """The stream's mark: moved by the transaction that appended the records."""
        return self._number("SELECT sum(committed) FROM mark WHERE stream = ")

    def logged(self) -> int:
        """Records in the log, duplicates included if there were any."""
        return self._number("SELECT sum(count) FROM log WHERE stream = ")

    def applied(self) -> int:
        """Distinct records that the projection knows."""
        return self._number("SELECT count(*) FROM record WHERE stream = ")

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _number(self, query: str) -> int:
        cursor = self._connection.execute(query + self._sign, (self._stream,))
        return int(cursor.fetchone()[0] or 0)
