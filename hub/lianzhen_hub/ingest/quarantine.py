"""Records that could not be applied: looked at, put right and released, or dismissed.

The log is never changed: a body that a person put right lies sealed beside the original, with who
did it, when and why. A release is one commit and happens once for each record id. What only a later
release of this program can read is tried again when that one starts.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Self

import msgspec
from sqlalchemy import Connection, Row, func, select, update

from lianzhen_hub.page import HubPage, Pages
from lianzhen_hub.store import sql, tables
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_hub.store.tables import DISMISSED, HELD, RELEASED
from lianzhen_protocol import kinds, records
from lianzhen_protocol.errors import ProtocolError, RecordError
from lianzhen_protocol.frame import FrameCodec
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.records import Body, Record, RecordAccepted, RecordRejected
from lianzhen_protocol.sheets import Index, Sheet
from lianzhen_runtime.errors import LianzhenError

from .downlink import Outbox
from .leaving import stays
from .projector import (
    RECEIPTS,
    Poison,
    Projector,
    Readable,
    Step,
    Work,
    applied_row,
    judge,
    log_entries,
)
from .vault import Vault

AGAIN = ("record-kind-unknown", "record-version", "unexpected")
"""Codes that were this program's fault: a later release may do better."""

_MAX_RAW = 4096


class NoSuchHeld(LianzhenError):
    """Nothing lies in quarantine at that place."""

    code = "quarantine-unknown"
    http_status = 404


class NotReleased(LianzhenError):
    """The record still cannot be applied; ``code`` is that of the reason. Nothing was changed."""

    http_status = 409


class Place(NamedTuple):
    """Where a record lies in the log."""

    log_id: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """As ``str`` made it; NoSuchHeld."""
        log_id, _, seq = text.partition("-")
        if not (log_id.isdecimal() and seq.isdecimal()) or len(text) > 40:
            raise NoSuchHeld("a place in quarantine looks like 12-3; the list shows them")
        return cls(int(log_id), int(seq))

    def __str__(self) -> str:
        return f"{self.log_id}-{self.seq}"


class Decided(Sheet, frozen=True):
    """What a person decided. ``fixed`` is the record that was applied where it is not the log's."""

    SHEET: ClassVar[str] = "quarantine"

    place: str
    record: str
    verdict: str
    by: str
    why: str
    at_ms: int
    fixed: bytes = b""

    def index(self) -> Index:
        """By place."""
        return Index(self.place, owner=self.record, state=self.verdict, at_ms=self.at_ms)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A person's decision about a record; ``body`` (JSON) is put in the place of the original."""

    actor: str
    by: str
    why: str
    body: str = ""


class HeldRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the quarantine and what it says: ``raw``, hexadecimal, where it says nothing."""

    place: str
    node: str
    stream: str
    seq: int
    code: str
    reason: str
    state: str
    at_ms: int
    record: str | None = None
    kind: str | None = None
    version: str | None = None
    created_ms: int | None = None
    body: Any = None
    raw: str = ""
    decided_by: str = ""
    decided_ms: int = 0
    why: str = ""
    applied: Any = None
    """The body that was applied in its stead, if a person put it right."""


class _Found(NamedTuple):
    held: Row[Any]
    row: Row[Any]
    entry: bytes


class Quarantine:
    """On the writer's thread, in its caller's transaction."""

    def __init__(self, projector: Projector, vault: Vault, outbox: Outbox, pages: Pages) -> None:
        self._projector = projector
        self._vault = vault
        self._outbox = outbox
        self._pages = pages
        self._codec = FrameCodec()

    def show(self, page: HubPage, place: Place, actor: str) -> HeldRecord:
        """Open one, and note who looked; NoSuchHeld."""
        page.audit(actor, "read", f"quarantine/{place}")
        held, _, entry = self._find(page.connection, place)
        shown = HeldRecord(
            place=str(place),
            node=held.node,
            stream=held.stream,
            seq=held.seq,
            code=held.code,
            reason=held.reason,
            state=held.state,
            at_ms=held.at_ms,
            **_said(entry),
        )
        decided = page.get(Decided, str(place))
        if decided is None:
            return shown
        return msgspec.structs.replace(
            shown,
            decided_by=decided.by,
            decided_ms=decided.at_ms,
            why=decided.why,
            applied=_said(decided.fixed).get("body") if decided.fixed else None,
        )

    def release(self, db: Connection, place: Place, verdict: Verdict, now_ms: int) -> Step:
        """Apply it, with another body if one is given; NoSuchHeld, NotReleased."""
        found = self._held(db, place)
        entry = _mended(found.entry, verdict.body) if verdict.body else found.entry
        work = Work(db, now_ms)
        poison = self._try(work, place, found, judge(entry))
        if poison is not None:
            raise NotReleased(f"it still cannot be applied: {poison.reason}", code=poison.code)
        fixed = b"" if entry == found.entry else entry
        self._decide(db, place, found, RELEASED, verdict, now_ms, fixed)
        return work.step(0)

    def dismiss(self, db: Connection, place: Place, verdict: Verdict, now_ms: int) -> Step:
        """It is not applied, for good; it stays in the log, and its author is told."""
        found = self._held(db, place)
        self._decide(db, place, found, DISMISSED, verdict, now_ms)
        identity = found.held.record_id
        _close(db, place, identity, DISMISSED)
        if identity is None:
            return Step(0, 0, 0, frozenset())
        answer = RecordRejected(record_id=identity, code=DISMISSED, reason=verdict.why)
        node = NodeId(found.row.node)
        self._outbox.append(db, node, RECEIPTS, answer, now_ms)
        return Step(0, 0, 0, frozenset({node}))

    @staticmethod
    def count(db: Connection) -> int:
        """How many records wait for a decision."""
        table = tables.quarantine.c
        query = select(func.count()).where(table.state == HELD)
        return db.execute(query).scalar_one()

    def waiting(self, db: Connection) -> list[Place]:
        """What this release may be able to apply and an earlier one was not."""
        table = tables.quarantine.c
        query = (
            select(table.log_id, table.seq)
            .where(table.state == HELD, table.code.in_(AGAIN))
            .where(table.kind.is_(None) | table.kind.in_(list(kinds.KINDS)))
            .order_by(table.log_id, table.seq)
        )
        return [Place(*row) for row in db.execute(query)]

    def try_again(self, db: Connection, places: Iterable[Place], now_ms: int) -> Step:
        """Release those that can be applied now; the others stay as they are."""
        work = Work(db, now_ms)
        for place in places:
            try:
                found = self._held(db, place)
            except (ProtocolError, NoSuchHeld):
                continue  # decided meanwhile, or the disk damaged it
            self._try(work, place, found, judge(found.entry))
        return work.step(0)

    # -- inside

    def _try(
        self, work: Work, place: Place, found: _Found, judged: Readable | Poison
    ) -> Poison | None:
        """Why it still cannot be applied, and then nothing happened."""
        db = work.connection
        result = self._projector.apply(work, found.row, judged)
        if isinstance(result, Poison):
            return result
        row = applied_row(found.row, found.held.seq, result)
        sql.insert_new(db, tables.record, [row])
        if isinstance(judged, Readable) and stays(found.row.stream, judged.body):
            sql.insert_new(db, tables.log_kept, [{"log_id": place.log_id}])
        _close(db, place, result.id, RELEASED)
        work.applied.append(row)
        answer = RecordAccepted(record_id=result.id)
        self._outbox.append(db, NodeId(found.row.node), RECEIPTS, answer, work.now_ms)
        work.told.add(NodeId(found.row.node))
        return None

    def _decide(
        self,
        db: Connection,
        place: Place,
        found: _Found,
        state: str,
        verdict: Verdict,
        now_ms: int,
        fixed: bytes = b"",
    ) -> None:
        page = self._pages(db, now_ms, "")
        identity = found.held.record_id
        decided = Decided(
            place=str(place),
            record="" if identity is None else bytes(identity).hex(),
            verdict=state,
            by=verdict.by,
            why=verdict.why,
            at_ms=now_ms,
            fixed=fixed,
        )
        page.put(decided)
        page.audit(verdict.actor, "change" if fixed else "decide", f"quarantine/{place}")

    def _held(self, db: Connection, place: Place) -> _Found:
        found = self._find(db, place)
        if found.held.state != HELD:
            raise NoSuchHeld(f"{place} was {found.held.state} already")
        return found

    def _find(self, db: Connection, place: Place) -> _Found:
        table, log = tables.quarantine, tables.log
        mine = (table.c.log_id == place.log_id) & (table.c.seq == place.seq)
        held = db.execute(select(table).where(mine)).one_or_none()
        row = db.execute(select(log).where(log.c.id == place.log_id)).one_or_none()
        if held is None or row is None:
            raise NoSuchHeld(f"nothing lies in quarantine at {place}")
        entry = dict(log_entries(db, self._vault, self._codec, row))[place.seq]
        return _Found(held, row, entry)


def applied_entry(sheets: HubSheets, place: Place, entry: bytes) -> bytes:
    """The record that was applied for one of the log: another where a person put it right."""
    decided = sheets.get(Decided, str(place))
    return decided.fixed if decided is not None and decided.fixed else entry


def _close(db: Connection, place: Place, identity: bytes | None, state: str) -> None:
    """One decision closes every place where the record waits: a fork sends it again."""
    table = tables.quarantine
    mine = (table.c.log_id == place.log_id) & (table.c.seq == place.seq)
    if identity is not None:
        mine |= (table.c.record_id == identity) & (table.c.state == HELD)
    db.execute(update(table).where(mine).values(state=state))


def _said(entry: bytes) -> dict[str, Any]:
    """What a record says, as far as it can be read without its type."""
    try:
        record = records.decode(entry)
    except RecordError:
        return {"raw": entry[:_MAX_RAW].hex()}
    about = {
        "record": record.id.hex(),
        "kind": record.kind,
        "version": f"{record.major}.{record.minor}",
        "created_ms": record.created_ms,
    }
    try:
        body = msgspec.msgpack.decode(record.body)
        msgspec.json.encode(body)
    except (ValueError, TypeError, RecursionError):
        return about | {"raw": record.body[:_MAX_RAW].hex()}
    return about | {"body": body}


def _mended(entry: bytes, body: str) -> bytes:
    """The record with another body, given as JSON; NotReleased with what is wrong with it."""
    try:
        record = records.decode(entry)
    except RecordError as error:
        raise NotReleased(
            "not even its envelope can be read: it can only be dismissed", code=error.code
        ) from error
    kind = kinds.KINDS.get(record.kind, {}).get(record.major)
    if kind is None:
        raise NotReleased(
            f"this release does not know {record.kind} {record.major}", code="record-kind-unknown"
        )
    try:
        said = msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise NotReleased(
            f"the body is not one of {record.kind}: {error}", code="record-malformed"
        ) from error
    return _with_body(record, said)


def _with_body(record: Record, body: Body) -> bytes:
    return msgspec.msgpack.encode(
        msgspec.structs.replace(record, body=msgspec.msgpack.encode(body))
    )
