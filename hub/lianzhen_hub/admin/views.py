"""What an admin sees: nodes, the log, quarantine, notices. Each is one query on a snapshot."""

from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from lianzhen_hub.ingest.projector import log_entries
from lianzhen_hub.ingest.quarantine import Place, applied_entry
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store import tables
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol import kinds, records
from lianzhen_protocol.frame import FrameCodec
from lianzhen_runtime.errors import LianzhenError

MAX_ROWS = 1000


class NoSuchRecord(LianzhenError):
    """The hub has no record with this id."""

    code = "record-unknown"
    http_status = 404


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """A record without what it says."""

    id: str
    node: str
    epoch: str
    stream: str
    seq: int
    kind: str
    created_ms: int
    received_ms: int


class StreamView(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of one epoch in the log: how many records, and how many of them are applied."""

    node: str
    epoch: str
    stream: str
    committed: int
    safe: int
    logged: int
    applied: int
    held: int


class HeldView(msgspec.Struct, frozen=True, kw_only=True):
    """A record in quarantine."""

    place: str
    node: str
    stream: str
    seq: int
    code: str
    reason: str
    at_ms: int
    record: str | None
    kind: str | None


class NoticeView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an admin should know."""

    at_ms: int
    node: str | None
    code: str
    detail: str


class OpenedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record with what it says."""

    about: RecordView
    body: dict[str, Any]


def log(
    connection: Connection, node: str | None, stream: str | None, limit: int
) -> list[RecordView]:
    """The newest applied records, newest first."""
    table = tables.record
    query = select(table).order_by(table.c.log_id.desc(), table.c.seq.desc())
    if node:
        query = query.where(table.c.node == node)
    if stream:
        query = query.where(table.c.stream == stream)
    return [_record(row) for row in connection.execute(query.limit(min(limit, MAX_ROWS)))]


def streams(connection: Connection) -> list[StreamView]:
    """Every stream in numbers, counted from the rows themselves and not from the marks."""
    key = ("node", "epoch", "stream")

    def counted(table: Any, amount: Any) -> dict[tuple[Any, ...], int]:
        columns = [table.c[name] for name in key]
        rows = connection.execute(select(*columns, amount).group_by(*columns))
        return {tuple(row[:3]): row[3] for row in rows}

    logged = counted(tables.log, func.sum(tables.log.c.count))
    applied = counted(tables.record, func.count())
    held_rows = connection.execute(
        select(tables.log.c.node, tables.log.c.epoch, tables.log.c.stream, func.count())
        .join(tables.quarantine, tables.quarantine.c.log_id == tables.log.c.id)
        .where(tables.quarantine.c.state == tables.HELD)
        .group_by(tables.log.c.node, tables.log.c.epoch, tables.log.c.stream)
    )
    held = {tuple(row[:3]): row[3] for row in held_rows}
    rows = connection.execute(select(tables.mark).order_by(*(tables.mark.c[name] for name in key)))
    return [
        StreamView(
            node=row.node,
            epoch=row.epoch.hex(),
            stream=row.stream,
            committed=row.committed,
            safe=row.safe,
            logged=int(logged.get((row.node, row.epoch, row.stream), 0)),
            applied=applied.get((row.node, row.epoch, row.stream), 0),
            held=held.get((row.node, row.epoch, row.stream), 0),
        )
        for row in rows
    ]


def quarantine(connection: Connection) -> list[HeldView]:
    """What could not be applied, newest first."""
    table = tables.quarantine
    query = select(table).where(table.c.state == tables.HELD).order_by(table.c.log_id.desc())
    return [
        HeldView(
            place=str(Place(row.log_id, row.seq)),
            node=row.node,
            stream=row.stream,
            seq=row.seq,
            code=row.code,
            reason=row.reason,
            at_ms=row.at_ms,
            record=row.record_id and bytes(row.record_id).hex(),
            kind=row.kind,
        )
        for row in connection.execute(query.limit(MAX_ROWS))
    ]


def notices(connection: Connection) -> list[NoticeView]:
    """What admins were told, newest first."""
    query = select(tables.notice).order_by(tables.notice.c.id.desc()).limit(MAX_ROWS)
    return [
        NoticeView(at_ms=row.at_ms, node=row.node, code=row.code, detail=row.detail)
        for row in connection.execute(query)
    ]


def opened(connection: Connection, vault: Vault, identity: bytes) -> OpenedRecord:
    """A record and what it says; NoSuchRecord."""
    row = connection.execute(
        select(tables.record).where(tables.record.c.id == identity)
    ).one_or_none()
    if row is None:
        raise NoSuchRecord("the hub has no record with that id")
    log = tables.log.c
    place = (log.id == row.log_id, log.received_ms == row.received_ms, log.node == row.node)
    run = connection.execute(select(tables.log).where(*place)).one_or_none()
    if run is None:
        raise NoSuchRecord("what it said has left the log (retention_log_days); a backup has it")
    entry = dict(log_entries(connection, vault, FrameCodec(), run))[row.seq]
    entry = applied_entry(HubSheets(connection, vault), Place(row.log_id, row.seq), entry)
    body = kinds.open_body(records.decode(entry))
    return OpenedRecord(about=_record(row), body=msgspec.to_builtins(body))


def _record(row: Any) -> RecordView:
    return RecordView(
        id=row.id.hex(),
        node=row.node,
        epoch=row.epoch.hex(),
        stream=row.stream,
        seq=row.seq,
        kind=row.kind,
        created_ms=row.created_ms,
        received_ms=row.received_ms,
    )
