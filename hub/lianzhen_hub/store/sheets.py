"""Sheets and audit logs in the hub's database, sealed under a data key of their own."""

import secrets
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, select

from lianzhen_hub.ingest.vault import Vault
from lianzhen_protocol.audit import HUB_LOG, Head, genesis
from lianzhen_protocol.identity import HUB, Epoch, NodeId
from lianzhen_protocol.sealing import KEY_BYTES, NONCE_BYTES
from lianzhen_protocol.sheets import Index, sheet_place, token
from lianzhen_runtime.audit import SealedAudit, Stored
from lianzhen_runtime.sheets import Rows, Wanted

from . import sql, tables

SHEET_EPOCH: Final = Epoch(b"lz/1 hub sheets\0")
"""Names the data key of all sheets, which belong to no box's epoch."""

_HOLDER: Final = NodeId(HUB)
_PSEUDONYMS: Final = "pseudonyms"


class HubSheets(SealedAudit):
    """Runs in its caller's transaction or snapshot."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        super().__init__()
        self.connection = connection
        self._vault = vault

    def keep_pseudonym_key(self) -> None:
        """Make the data key and the key of tokens, unless they are there."""
        table = tables.secret
        named = select(table.c.name).where(table.c.name == _PSEUDONYMS)
        if self.connection.execute(named).one_or_none() is None:
            sealed = self._seal("secret", _PSEUDONYMS, secrets.token_bytes(KEY_BYTES))
            self.connection.execute(table.insert().values(name=_PSEUDONYMS, sealed=sealed))

    def _seal(self, kind: str, key: str, plain: bytes) -> bytes:
        return self._seal_at(sheet_place(HUB, kind, key), plain)

    def _seal_at(self, place: bytes, plain: bytes) -> bytes:
        key = self._vault.key(self.connection, _HOLDER, SHEET_EPOCH)
        return key.seal(secrets.token_bytes(NONCE_BYTES), plain, place)

    def _open(self, kind: str, key: str, sealed: bytes) -> bytes:
        return self._open_at(sheet_place(HUB, kind, key), sealed)

    def _open_at(self, place: bytes, sealed: bytes) -> bytes:
        return self._vault.key(self.connection, _HOLDER, SHEET_EPOCH).open(sealed, place)

    def _token(self, kind: str, purpose: str, value: str) -> bytes:
        table = tables.secret.c
        sealed = self.connection.execute(
            select(table.sealed).where(table.name == _PSEUDONYMS)
        ).scalar_one()
        return token(self._open("secret", _PSEUDONYMS, sealed), kind, purpose, value)

    def _fetch(self, kind: str, key: str) -> bytes | None:
        table = tables.sheet.c
        found = self.connection.execute(
            select(table.sealed).where(table.kind == kind, table.key == key)
        ).scalar()
        return None if found is None else bytes(found)

    def _store(self, kind: str, index: Index, sealed: bytes, tokens: list[bytes]) -> None:
        row = {"kind": kind, **index._asdict(), "sealed": sealed}
        sql.upsert(self.connection, tables.sheet, [row])
        table = tables.sheet_token
        self.connection.execute(delete(table).where(table.c.kind == kind, table.c.key == index.key))
        rows = [{"kind": kind, "token": found, "key": index.key} for found in tokens]
        sql.insert_new(self.connection, table, rows)

    def _remove(self, kind: str, key: str) -> None:
        for table in (tables.sheet, tables.sheet_token):
            self.connection.execute(delete(table).where(table.c.kind == kind, table.c.key == key))

    def _select(self, kind: str, wanted: Wanted) -> Rows:
        table = tables.sheet.c
        clauses: list[ColumnElement[bool]] = [table.kind == kind]
        if wanted.owner is not None:
            clauses.append(table.owner == wanted.owner)
        if wanted.state is not None:
            clauses.append(table.state == wanted.state)
        if wanted.since_ms is not None:
            clauses.append(table.at_ms >= wanted.since_ms)
        order = (table.at_ms, table.key)
        query = (
            select(table.key, table.sealed)
            .where(*clauses)
            .order_by(*(column.desc() if wanted.newest else column for column in order))
            .limit(wanted.limit)
        )
        return [(row.key, bytes(row.sealed)) for row in self.connection.execute(query)]

    def _holding(self, kind: str, token: bytes) -> Rows:
        sheet, held = tables.sheet, tables.sheet_token
        joined = sheet.join(held, (held.c.kind == sheet.c.kind) & (held.c.key == sheet.c.key))
        query = (
            select(sheet.c.key, sheet.c.sealed)
            .select_from(joined)
            .where(held.c.kind == kind, held.c.token == token)
            .order_by(sheet.c.at_ms, sheet.c.key)
        )
        return [(row.key, bytes(row.sealed)) for row in self.connection.execute(query)]

    # -- audit: the hub's own log, and what boxes told of theirs

    def _owner(self, kind: str, key: str) -> str | None:
        table = tables.sheet.c
        query = select(table.owner).where(table.kind == kind, table.key == key)
        return self.connection.execute(query).scalar()

    def _end(self, log: str) -> Head:
        table = tables.audit_end.c
        query = select(table.seq, table.hash, table.at_ms).where(table.log == log)
        row = self.connection.execute(query).one_or_none()
        return Head(row[0], bytes(row[1]), row[2]) if row else Head(0, genesis(log))

    def _move_end(self, log: str, end: Head) -> None:
        row = {"log": log, "seq": end.seq, "hash": end.hash, "at_ms": end.told_ms}
        sql.upsert(self.connection, tables.audit_end, [row])

    def _store_row(self, log: str, row: Stored, token: bytes | None) -> None:
        values = row._asdict() | {"about": token}
        if log == HUB_LOG:
            self.connection.execute(tables.audit.insert().values(values))
        else:
            self.connection.execute(tables.box_audit.insert().values(values | {"node": log}))

    def _rows(self, log: str, after: int, limit: int | None) -> list[Stored]:
        table = _log_table(log)
        query = _of_log(log).where(table.c.seq > after).order_by(table.c.seq).limit(limit)
        return [_stored(row) for row in self.connection.execute(query)]

    def _rows_about(self, token: bytes, limit: int) -> list[tuple[str, Stored]]:
        own, boxes = tables.audit.c, tables.box_audit.c
        mine = _of_log(HUB_LOG).where(own.about == token).order_by(own.seq.desc()).limit(limit)
        theirs = (
            select(boxes.seq, boxes.sealed, boxes.hash, boxes.node)
            .where(boxes.about == token)
            .order_by(boxes.seq.desc())
            .limit(limit)
        )
        return [
            *((HUB_LOG, _stored(row)) for row in self.connection.execute(mine)),
            *((row.node, _stored(row)) for row in self.connection.execute(theirs)),
        ]

    def _hash_at(self, log: str, seq: int) -> bytes | None:
        query = _of_log(log).where(_log_table(log).c.seq == seq)
        row = self.connection.execute(query).one_or_none()
        return None if row is None else bytes(row.hash)

    def _logs(self) -> list[str]:
        ends = self.connection.execute(select(tables.audit_end.c.log)).scalars()
        heads = self.connection.execute(select(tables.audit_head.c.log).distinct()).scalars()
        return sorted({*ends, *heads})

    def _told(self, log: str) -> int:
        table = tables.audit_head.c
        query = select(func.max(table.seq)).where(table.log == log)
        return self.connection.execute(query).scalar() or 0

    def _heads(self, log: str) -> list[Head]:
        table = tables.audit_head.c
        query = (
            select(table.seq, table.hash, table.told_ms)
            .where(table.log == log)
            .order_by(table.seq, table.told_ms)
        )
        return [Head(row[0], bytes(row[1]), row[2]) for row in self.connection.execute(query)]

    def _keep_head(self, log: str, head: Head) -> None:
        row = {"log": log, "seq": head.seq, "hash": head.hash, "told_ms": head.told_ms}
        sql.insert_new(self.connection, tables.audit_head, [row])


def _log_table(log: str) -> Table:
    return tables.audit if log == HUB_LOG else tables.box_audit


def _of_log(log: str) -> Select[tuple[int, bytes, bytes]]:
    table = _log_table(log)
    query = select(table.c.seq, table.c.sealed, table.c.hash)
    return query if log == HUB_LOG else query.where(tables.box_audit.c.node == log)


def _stored(row: Any) -> Stored:
    return Stored(row.seq, bytes(row.sealed), bytes(row.hash))
