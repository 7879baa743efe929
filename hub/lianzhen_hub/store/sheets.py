"""Sheets in the hub's database, sealed under a data key of their own."""

import secrets
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select

from lianzhen_hub.ingest.vault import Vault
from lianzhen_protocol.identity import HUB, Epoch, NodeId
from lianzhen_protocol.sealing import KEY_BYTES, NONCE_BYTES
from lianzhen_protocol.sheets import Index, sheet_place, token
from lianzhen_runtime.sheets import Rows, SealedSheets, Wanted

from . import sql, tables

SHEET_EPOCH: Final = Epoch(b"lz/1 hub sheets\0")
"""Names the data key of all sheets, which belong to no box's epoch."""

_HOLDER: Final = NodeId(HUB)
_PSEUDONYMS: Final = "pseudonyms"


class HubSheets(SealedSheets):
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
        found = self._vault.key(self.connection, _HOLDER, SHEET_EPOCH)
        return found.open(sealed, sheet_place(HUB, kind, key))

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
