"""Where a peer's consumer puts what arrives: a table with the same promise as our hub's.

SQLite in WAL mode with synchronous=FULL, or PostgreSQL with synchronous_commit=on: what is stored
is on the disk when ``store`` returns. A message that comes twice is kept once and counted.
"""

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from bench.common.child import answer
from lianzhen_protocol import records

_SQLITE = "sqlite:///"


class Sink:
    """One table: id, body."""

    def __init__(self, url: str, table: str) -> None:
        self._table = table
        self._sqlite = url.startswith(_SQLITE)
        if self._sqlite:
            path = url.removeprefix(_SQLITE)
            self._connection: Any = sqlite3.connect(path, check_same_thread=False)
            self._connection.isolation_level = None
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            kind = "BLOB"
        else:
            self._connection = psycopg.connect(url, autocommit=True)
            self._connection.execute("SET synchronous_commit = on")
            kind = "bytea"
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (id {kind} PRIMARY KEY, body {kind} NOT NULL)"
        )

    def store(self, bodies: Sequence[bytes]) -> int:
        """Commit in one transaction; how many of them were new."""
        rows = [(records.decode(body).id, body) for body in bodies]
        if not self._sqlite:
            cursor = self._connection.execute(
                f"INSERT INTO {self._table} SELECT * FROM unnest(%s::bytea[], %s::bytea[])"
                " ON CONFLICT DO NOTHING",
                ([row[0] for row in rows], [row[1] for row in rows]),
            )
            return int(cursor.rowcount)
        before = self._connection.total_changes
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(f"INSERT OR IGNORE INTO {self._table} VALUES (?, ?)", rows)
        self._connection.execute("COMMIT")
        return int(self._connection.total_changes - before)

    def count(self) -> int:
        """Rows in the table."""
        return int(self._connection.execute(f"SELECT count(*) FROM {self._table}").fetchone()[0])


class Tally:
    """What a consumer stored, and whom it tells: ``expect`` N answers when N more are stored."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._delivered = self._stored = self._target = 0
        self._waiting = False

    def store(self, bodies: Sequence[bytes]) -> None:
        """Commit a batch and count it."""
        fresh = self._sink.store(bodies)
        now = time.monotonic()
        with self._lock:
            self._delivered += len(bodies)
            self._stored += fresh
            self._tell(now)

    def listen(self) -> None:
        """Take commands from standard input in a thread of its own."""
        threading.Thread(target=self._commands, name="commands", daemon=True).start()

    def _commands(self) -> None:
        for line in sys.stdin:
            command = json.loads(line)
            with self._lock:
                if "expect" in command:
                    self._target += command["expect"]
                    self._waiting = True
                    self._tell(time.monotonic())
                else:
                    answer(delivered=self._delivered, stored=self._stored)

    def _tell(self, now: float) -> None:
        if self._waiting and self._stored >= self._target:
            self._waiting = False
            answer(at=now)
