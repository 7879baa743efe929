"""Sheets in the journal's file: written by its one writer, read on its reader's connection."""

import sqlite3

from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.sheets import Index, sheet_place, token
from lianzhen_runtime.sheets import Rows, SealedSheets, Wanted

from .schema import present_epoch
from .seals import Seals

_EPOCH_BYTES = 16
_PSEUDONYMS = "pseudonyms"


class JournalSheets(SealedSheets):
    """Sealed under the data key of the epoch in which each was written last."""

    def __init__(self, db: sqlite3.Connection, node: NodeId, seals: Seals) -> None:
        super().__init__()
        self._db = db
        self._node = node
        self._seals = seals

    def _seal(self, kind: str, key: str, plain: bytes) -> bytes:
        epoch = present_epoch(self._db)
        return epoch + self._seals.seal_at(epoch, sheet_place(self._node, kind, key), plain)

    def _open(self, kind: str, key: str, sealed: bytes) -> bytes:
        epoch = Epoch(sealed[:_EPOCH_BYTES])
        place = sheet_place(self._node, kind, key)
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


def _given(wanted: Wanted) -> list[str | int]:
    """The values of the clauses, in their order."""
    return [v for v in (wanted.owner, wanted.state, wanted.since_ms) if v is not None]
