"""Sheets and audit logs in the journal's file: one writer, and a reader of its own."""

import sqlite3

from lianzhen_protocol.audit import Head, genesis
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.sheets import Index, sheet_place, token
from lianzhen_runtime.audit import SealedAudit, Stored
from lianzhen_runtime.sheets import Rows, Wanted

from .schema import present_epoch
from .seals import Seals

_EPOCH_BYTES = 16
_PSEUDONYMS = "pseudonyms"


class JournalSheets(SealedAudit):
    """Sealed under the data key of the epoch in which each was written last."""

    def __init__(self, db: sqlite3.Connection, node: NodeId, seals: Seals) -> None:
        super().__init__()
        self._db = db
        self._node = node
        self._seals = seals

    def _seal(self, kind: str, key: str, plain: bytes) -> bytes:
        return self._seal_at(sheet_place(self._node, kind, key), plain)

    def _open(self, kind: str, key: str, sealed: bytes) -> bytes:
        return self._open_at(sheet_place(self._node, kind, key), sealed)

    def _seal_at(self, place: bytes, plain: bytes) -> bytes:
        epoch = present_epoch(self._db)
        return epoch + self._seals.seal_at(epoch, place, plain)

    def _open_at(self, place: bytes, sealed: bytes) -> bytes:
        epoch = Epoch(sealed[:_EPOCH_BYTES])
        return self._seals.open_at(epoch, place, sealed[_EPOCH_BYTES:])

    def _token(self, kind: str, purpose: str, value: str) -> bytes:
        (sealed,) = self._db.execute(
            "SELECT sealed FROM secret WHERE name = ?", (_PSEUDONYMS,)
        ).fetchone()
        return token(self._open("secret", _PSEUDONYMS, sealed), kind, purpose, value)

    def keep_pseudonym_key(self, fresh: bytes) -> None:
        """Take ``fresh`` (32 random bytes) as the key of tokens, unless there is one."""
        sealed = self._seal("secret", _PSEUDONYMS, fresh)
        self._db.execute("INSERT OR IGNORE INTO secret VALUES (?, ?)", (_PSEUDONYMS, sealed))

    def _fetch(self, kind: str, key: str) -> bytes | None:
        row = self._db.execute(
            "SELECT sealed FROM sheet WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _store(self, kind: str, index: Index, sealed: bytes, tokens: list[bytes]) -> None:
        self._db.execute(
            "INSERT INTO sheet (kind, key, owner, state, at_ms, sealed) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, key) DO UPDATE SET owner = excluded.owner,"
            " state = excluded.state, at_ms = excluded.at_ms, sealed = excluded.sealed",
            (kind, *index, sealed),
        )
        self._db.execute("DELETE FROM sheet_token WHERE kind = ? AND key = ?", (kind, index.key))
        self._db.executemany(
            "INSERT OR IGNORE INTO sheet_token (kind, token, key) VALUES (?, ?, ?)",
            [(kind, found, index.key) for found in tokens],
        )

    def _remove(self, kind: str, key: str) -> None:
        for table in ("sheet", "sheet_token"):
            self._db.execute(f"DELETE FROM {table} WHERE kind = ? AND key = ?", (kind, key))  # noqa: S608 - our own names

    def _select(self, kind: str, wanted: Wanted) -> Rows:
        clauses, values = ["kind = ?"], [kind, *_given(wanted)]
        clauses += [
            clause
            for clause, value in (
                ("owner = ?", wanted.owner),
                ("state = ?", wanted.state),
                ("at_ms >= ?", wanted.since_ms),
            )
            if value is not None
        ]
        way = "DESC" if wanted.newest else "ASC"
        query = (
            f"SELECT key, sealed FROM sheet WHERE {' AND '.join(clauses)}"  # noqa: S608 - our own words
            f" ORDER BY at_ms {way}, key {way} LIMIT ?"
        )
        return self._db.execute(query, (*values, wanted.limit)).fetchall()

    def _holding(self, kind: str, token: bytes) -> Rows:
        return self._db.execute(
            "SELECT sheet.key, sealed FROM sheet_token JOIN sheet USING (kind, key)"
            " WHERE kind = ? AND token = ? ORDER BY at_ms, sheet.key",
            (kind, token),
        ).fetchall()

    # -- audit: a box has rows of its own log only, and heads of others

    def _owner(self, kind: str, key: str) -> str | None:
        query = "SELECT owner FROM sheet WHERE kind = ? AND key = ?"
        row = self._db.execute(query, (kind, key)).fetchone()
        return None if row is None else str(row[0])

    def _end(self, log: str) -> Head:
        query = "SELECT seq, hash, at_ms FROM audit_end WHERE log = ?"
        row = self._db.execute(query, (log,)).fetchone()
        return Head(*row) if row else Head(0, genesis(log))

    def _move_end(self, log: str, end: Head) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO audit_end (log, seq, hash, at_ms) VALUES (?, ?, ?, ?)",
            (log, end.seq, end.hash, end.told_ms),
        )

    def _store_row(self, log: str, row: Stored, token: bytes | None) -> None:
        self._db.execute(
            "INSERT INTO audit (seq, sealed, hash, about) VALUES (?, ?, ?, ?)", (*row, token)
        )

    def _rows(self, log: str, after: int, limit: int | None) -> list[Stored]:
        query = "SELECT seq, sealed, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
        if log != self._node:
            return []
        found = self._db.execute(query, (after, -1 if limit is None else limit))
        return [Stored(*row) for row in found]

    def _rows_about(self, token: bytes, limit: int) -> list[tuple[str, Stored]]:
        query = "SELECT seq, sealed, hash FROM audit WHERE about = ? ORDER BY seq DESC LIMIT ?"
        return [(self._node, Stored(*row)) for row in self._db.execute(query, (token, limit))]

    def _hash_at(self, log: str, seq: int) -> bytes | None:
        row = self._db.execute("SELECT hash FROM audit WHERE seq = ?", (seq,)).fetchone()
        return row[0] if row and log == self._node else None

    def _logs(self) -> list[str]:
        query = "SELECT log FROM audit_end UNION SELECT log FROM audit_head ORDER BY log"
        return [log for (log,) in self._db.execute(query)]

    def _told(self, log: str) -> int:
        query = "SELECT max(seq) FROM audit_head WHERE log = ?"
        (found,) = self._db.execute(query, (log,)).fetchone()
        return found or 0

    def _heads(self, log: str) -> list[Head]:
        query = "SELECT seq, hash, told_ms FROM audit_head WHERE log = ? ORDER BY seq, told_ms"
        return [Head(*row) for row in self._db.execute(query, (log,))]

    def _keep_head(self, log: str, head: Head) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO audit_head (log, seq, hash, told_ms) VALUES (?, ?, ?, ?)",
            (log, head.seq, head.hash, head.told_ms),
        )


def _given(wanted: Wanted) -> list[str | int]:
    """The values of the clauses, in their order."""
    return [v for v in (wanted.owner, wanted.state, wanted.since_ms) if v is not None]
