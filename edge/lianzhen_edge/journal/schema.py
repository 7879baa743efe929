"""The journal's tables. ``MIGRATIONS`` is append-only: a release adds, and never edits."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lianzhen_protocol.identity import Epoch
from lianzhen_runtime.errors import Unavailable

MIGRATIONS = (
    """
    CREATE TABLE about (                    -- one row
        id INTEGER PRIMARY KEY CHECK (id = 1),
        node TEXT NOT NULL,
        hardware TEXT                       -- hash of the machine that wrote this last
    );
    CREATE TABLE epoch (                    -- the last row is the present one
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        parent BLOB,
        reason TEXT,
        began_ms INTEGER NOT NULL,
        kek_version INTEGER NOT NULL,
        key_sealed BLOB NOT NULL
    );
    CREATE TABLE stream (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        lane INTEGER NOT NULL,
        last INTEGER NOT NULL,              -- written, in the present epoch
        last_hash BLOB NOT NULL,
        committed INTEGER NOT NULL,         -- in the hub's database
        safe INTEGER NOT NULL,              -- deleted up to here
        safe_hash BLOB NOT NULL
    );
    CREATE TABLE outbox (
        place INTEGER PRIMARY KEY,          -- stream id << 40 | seq
        put_ms INTEGER NOT NULL,
        chain BLOB NOT NULL,                -- hash after this record
        sealed BLOB NOT NULL
    );
    CREATE TABLE item (                     -- every record that was put, also after its deletion
        id BLOB PRIMARY KEY,
        stream INTEGER NOT NULL,
        seq INTEGER NOT NULL,               -- 0: safe in an earlier epoch
        rejected TEXT,                      -- the hub's reason
        seen_ms INTEGER,
        seen_by TEXT
    ) WITHOUT ROWID;
    CREATE TABLE down_mark (
        epoch BLOB NOT NULL,
        stream TEXT NOT NULL,
        committed INTEGER NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (epoch, stream)
    ) WITHOUT ROWID;
    CREATE TABLE damaged (                  -- rows that did not open, as they were found
        stream TEXT NOT NULL,
        epoch BLOB NOT NULL,
        seq INTEGER NOT NULL,
        sealed BLOB NOT NULL,
        found_ms INTEGER NOT NULL
    );
    CREATE TABLE inbox (                    -- what came down and this release could not apply
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        key_epoch BLOB NOT NULL,
        epoch BLOB NOT NULL,
        stream TEXT NOT NULL,
        seq INTEGER NOT NULL,
        sealed BLOB NOT NULL,
        code TEXT NOT NULL
    );
    """,
    """
    CREATE TABLE sheet (                    -- what the records come to (protocol.sheets)
        place INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        sealed BLOB NOT NULL,               -- epoch of its key (16), then the sealed sheet
        UNIQUE (kind, key)
    );
    CREATE INDEX sheet_owner ON sheet (kind, owner, at_ms);
    CREATE INDEX sheet_state ON sheet (kind, state, at_ms);
    CREATE TABLE sheet_token (              -- keyed hashes to find a sheet by
        kind TEXT NOT NULL,
        token BLOB NOT NULL,
        key TEXT NOT NULL,
        PRIMARY KEY (kind, token, key)
    ) WITHOUT ROWID;
    CREATE INDEX sheet_token_key ON sheet_token (kind, key);
    CREATE TABLE secret (                   -- the key of those hashes
        name TEXT PRIMARY KEY,
        sealed BLOB NOT NULL
    );
    CREATE TABLE audit (                    -- who did what (protocol.audit)
        seq INTEGER PRIMARY KEY,
        sealed BLOB NOT NULL,
        hash BLOB NOT NULL
    );
    """,
    """
    ALTER TABLE audit ADD COLUMN about BLOB; -- token of the patient's id
    CREATE INDEX audit_about ON audit (about, seq);
    CREATE TABLE audit_end (                -- where a log's writer left it
        log TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL,
        at_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE audit_head (               -- what was told of a log, ours and the hub's
        log TEXT NOT NULL,
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL,
        told_ms INTEGER NOT NULL,
        PRIMARY KEY (log, seq, hash)
    ) WITHOUT ROWID;
    """,
    # What operators see is counted in the transaction that changes it: no page walks a backlog.
    """
    ALTER TABLE stream ADD COLUMN waiting_bytes INTEGER NOT NULL DEFAULT 0; -- sealed, uncommitted
    ALTER TABLE stream ADD COLUMN committed_ms INTEGER; -- when the hub's word last moved the mark
    ALTER TABLE stream ADD COLUMN seen_count INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE stream ADD COLUMN rejected_count INTEGER NOT NULL DEFAULT 0;
    UPDATE stream SET
        waiting_bytes = (SELECT coalesce(sum(length(sealed)), 0) FROM outbox
            WHERE place > (stream.id << 40 | stream.committed) AND place < (stream.id + 1) << 40),
        seen_count = (SELECT count(*) FROM item WHERE stream = stream.id AND seen_ms IS NOT NULL),
        rejected_count =
            (SELECT count(*) FROM item WHERE stream = stream.id AND rejected IS NOT NULL);
    CREATE INDEX item_rejected ON item (id) WHERE rejected IS NOT NULL;
    CREATE TRIGGER item_seen AFTER UPDATE OF seen_ms ON item
        WHEN OLD.seen_ms IS NULL AND NEW.seen_ms IS NOT NULL
    BEGIN
        UPDATE stream SET seen_count = seen_count + 1 WHERE id = NEW.stream;
    END;
    CREATE TRIGGER item_rejected AFTER UPDATE OF rejected ON item
        WHEN (OLD.rejected IS NULL) <> (NEW.rejected IS NULL)
    BEGIN
        UPDATE stream SET rejected_count = rejected_count - 1
            WHERE OLD.rejected IS NOT NULL AND id = OLD.stream;
        UPDATE stream SET rejected_count = rejected_count + 1
            WHERE NEW.rejected IS NOT NULL AND id = NEW.stream;
    END;
    CREATE TABLE tally (                    -- what waits here and is no record: images
        name TEXT PRIMARY KEY,
        count INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        moved_ms INTEGER                    -- when the hub's word last lowered it
    ) WITHOUT ROWID;
    """,
)


def connect(path: Path, *, reader: bool = False) -> sqlite3.Connection:
    """A connection whose commits are on the disk when they return."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if reader:
        connection.execute("PRAGMA query_only=ON")
    return connection


def place_of(stream: int, seq: int) -> int:
    """Where record ``seq`` of a stream lies in the outbox: streams one after another, in order."""
    return stream << 40 | seq


def present_epoch(connection: sqlite3.Connection) -> Epoch:
    """The epoch that records are written in now."""
    (identity,) = connection.execute("SELECT id FROM epoch ORDER BY number DESC LIMIT 1").fetchone()
    return Epoch(identity)


@contextlib.contextmanager
def savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """Undo what the block did, and nothing else of the transaction, if it raises.

    A fault of the disk is no fault of the block's: it ends the whole transaction.
    """
    connection.execute("SAVEPOINT work")
    try:
        yield
    except sqlite3.Error:
        raise
    except BaseException:
        connection.execute("ROLLBACK TO work")
        raise
    finally:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("RELEASE work")


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the tables to this release. Unavailable if a later release wrote the journal."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise Unavailable("the journal was written by a later release; install that one again")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN;{script};PRAGMA user_version={number};COMMIT;")
