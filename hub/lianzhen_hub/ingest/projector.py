"""From the log to what it means: a second step, idempotent, that no record can stop.

The cursor moves in the transaction that applies what lies before it, and every record is keyed
by its own id, so a step that is repeated, or a history that arrives twice through a fork, changes
nothing. A record that cannot be applied waits in quarantine and its author is told.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, exists, select, update
from sqlalchemy.exc import OperationalError

from lianzhen_hub.page import Meanings, Pages
from lianzhen_hub.store import sql, tables
from lianzhen_hub.store.notices import tell
from lianzhen_protocol import kinds, records
from lianzhen_protocol.errors import ProtocolError, RecordError
from lianzhen_protocol.frame import FrameCodec
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.records import Body, Record, RecordAccepted, RecordRejected, RecordSeen
from lianzhen_protocol.sealing import record_place
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.log import Log

from .downlink import Outbox
from .leaving import stays
from .order import CommitOrder, NextRows
from .vault import Vault

CHUNK = 32
"""Log rows in one transaction: short, as the intake waits for the same writer."""

RECEIPTS = "record.receipts"
"""The down stream that tells a box what became of its records."""

QUARANTINED = "quarantined"
"""The notice that something waits in quarantine."""

_CURSOR = "record"
_MAX_KIND = 80
_log = Log("lianzhen.projection")


class Step(NamedTuple):
    """What one step did. ``told``: boxes for which something lies in the outbox now."""

    rows: int
    applied: int
    quarantined: int
    told: frozenset[NodeId]
    changed: frozenset[tuple[str, str]] = frozenset()
    """Sheets, as (kind, key)."""
    waits: bool = False
    """There is more, and before it a transaction that has not ended."""


class Readable(NamedTuple):
    """A record and what it says."""

    record: Record
    body: Body


class Poison(NamedTuple):
    """A record that this hub cannot apply; ``id`` is None where not even that can be read."""

    id: bytes | None
    code: str
    reason: str
    kind: str | None = None


class Work:
    """One step, as it grows."""

    def __init__(self, connection: Connection, now_ms: int) -> None:
        self.connection = connection
        self.now_ms = now_ms
        self.applied: list[dict[str, Any]] = []
        self.held: list[dict[str, Any]] = []
        self.staying: set[int] = set()
        """Rows of the log that hold what is nowhere else, on a stream whose rows may leave."""
        self.told: set[NodeId] = set()
        self.changed: set[tuple[str, str]] = set()

    def knows(self, identity: bytes) -> bool:
        """Whether a record was applied before, here or in an earlier step."""
        table = tables.record.c
        query = select(table.id).where(table.id == identity)
        return any(row["id"] == identity for row in self.applied) or (
            self.connection.execute(query).one_or_none() is not None
        )

    def step(self, rows: int) -> Step:
        """What it came to."""
        told, changed = frozenset(self.told), frozenset(self.changed)
        return Step(rows, len(self.applied), len(self.held), told, changed)


class Projector:
    """Runs on the database's writer thread."""

    def __init__(self, vault: Vault, outbox: Outbox, pages: Pages, meanings: Meanings) -> None:
        self._vault = vault
        self._outbox = outbox
        self._pages = pages
        self._meanings = meanings
        self._order = CommitOrder()
        self._log = NextRows(CHUNK)
        self._codec = FrameCodec()

    def step(self, connection: Connection, now_ms: int) -> Step:
        """Apply the next rows of the log; ``rows`` is 0 when there are none."""
        rows = self._next(connection, now_ms)
        if not rows:
            return Step(0, 0, 0, frozenset(), waits=self._order.waits)
        work = Work(connection, now_ms)
        for row in rows:
            try:
                entries = log_entries(connection, self._vault, self._codec, row)
            except ProtocolError as error:  # the disk damaged it, and its neighbours are sound
                work.held += _damaged(connection, row, error, now_ms)
                continue
            for seq, entry in entries:
                found = judge(entry)
                if isinstance(found, Readable) and stays(row.stream, found.body):
                    work.staying.add(row.id)
                match self.apply(work, row, found):
                    case Record() as record:
                        work.applied.append(applied_row(row, seq, record))
                    case Poison() as poison:
                        self._hold(work, row, seq, poison)
        sql.insert_new(connection, tables.record, work.applied)
        sql.insert_new(connection, tables.log_kept, [{"log_id": at} for at in sorted(work.staying)])
        self._let_go(work)
        sql.insert_new(connection, tables.quarantine, work.held)
        sql.upsert(connection, tables.cursor, [{"projection": _CURSOR, "log_id": rows[-1].id}])
        return work.step(len(rows))

    def apply(self, work: Work, row: Row[Any], found: Readable | Poison) -> Record | Poison:
        """Let a record mean what it means, once for its id; why not, and then nothing happened."""
        if isinstance(found, Poison):
            return found
        record, body = found
        meaning = self._meanings.get(type(body))
        if meaning is None or work.knows(record.id):
            return record
        page = self._pages(work.connection, work.now_ms, row.node)
        try:
            with work.connection.begin_nested():
                meaning(page, record, body)
        except OperationalError:  # of the database, and not of the record
            raise
        except (ProtocolError, LianzhenError) as error:
            poison = Poison(record.id, error.code, str(error), record.kind)
        except Exception as error:  # noqa: BLE001 - one record's surprise must not stop its stream
            _log.error("a record surprised us", exc_info=True)
            poison = Poison(record.id, "unexpected", type(error).__name__, record.kind)
        else:
            work.told |= page.told
            work.changed |= page.changed
            return record
        self._vault.forget()  # a key that was made in there is gone again
        return poison

    def _hold(self, work: Work, row: Row[Any], seq: int, poison: Poison) -> None:
        """Set it aside, unless that was done (or it was put right) when it came before."""
        db, identity, now_ms = work.connection, poison.id, work.now_ms
        if identity is not None and (
            work.knows(identity)
            or any(held["record_id"] == identity for held in work.held)
            or _held_before(db, identity, row, seq)
        ):
            return
        work.held.append(_held(row, seq, poison, now_ms))
        detail = f"records of {row.stream} wait in quarantine: {poison.code}"
        tell(db, now_ms, QUARANTINED, row.node, detail)
        if identity is not None:
            answer = RecordRejected(record_id=identity, code=poison.code, reason=poison.reason)
            self._outbox.append(db, row.node, RECEIPTS, answer, now_ms)
            work.told.add(row.node)

    def _let_go(self, work: Work) -> None:
        """What waited in quarantine and came again, and could be applied, waits no more."""
        table = tables.quarantine
        held = table.c.state == tables.HELD
        if not work.applied or not work.connection.execute(select(exists().where(held))).scalar():
            return
        came = table.c.record_id.in_([row["id"] for row in work.applied])
        which = select(table.c.record_id, table.c.node).where(held, came).distinct()
        for identity, node in work.connection.execute(which).all():
            accepted = RecordAccepted(record_id=bytes(identity))
            self._outbox.append(work.connection, NodeId(node), RECEIPTS, accepted, work.now_ms)
            work.told.add(NodeId(node))
        work.connection.execute(update(table).where(held, came).values(state=tables.RELEASED))

    def _next(self, connection: Connection, now_ms: int) -> list[Row[Any]]:
        cursor = applied_to(connection)
        self._order.look(connection)
        rows = self._log.after(connection, cursor, now_ms)
        return self._order.settled(connection, cursor, rows)


def applied_to(connection: Connection) -> int:
    """Every row of the log up to this one is settled, and was applied or set aside."""
    table = tables.cursor.c
    query = select(table.log_id).where(table.projection == _CURSOR)
    return connection.execute(query).scalar() or 0


def log_entries(
    connection: Connection, vault: Vault, codec: FrameCodec, row: Row[Any]
) -> Iterator[tuple[int, bytes]]:
    """(seq, record bytes) of a row of the log. ``codec`` belongs to the calling thread."""
    node, epoch = NodeId(row.node), Epoch(row.epoch)
    place = record_place(node, epoch, row.stream, row.first)
    body = vault.key(connection, node, epoch).open(row.sealed, place)
    return enumerate(codec.unpack(body), row.first)


def judge(entry: bytes) -> Readable | Poison:
    """A record that can be read, or why not. The one boundary of a record: it raises nothing."""
    identity = kind = None
    try:
        record = records.decode(entry)
        identity, kind = record.id, record.kind[:_MAX_KIND]
        body = kinds.open_body(record)
        if isinstance(body, RecordRejected | RecordSeen | RecordAccepted):
            raise RecordError(f"{record.kind} goes down, never up", code="record-misplaced")
    except RecordError as error:
        return Poison(identity, error.code, str(error), kind)
    except Exception as error:  # noqa: BLE001 - one record's surprise must not stop its stream
        _log.error("a record surprised us", exc_info=True)
        return Poison(identity, "unexpected", type(error).__name__, kind)
    return Readable(record, body)


def applied_row(row: Row[Any], seq: int, record: Record) -> dict[str, Any]:
    """A line of table ``record``: where a record that was applied lies in the log."""
    return {
        "id": record.id,
        "node": row.node,
        "epoch": row.epoch,
        "stream": row.stream,
        "seq": seq,
        "log_id": row.id,
        "kind": record.kind,
        "created_ms": record.created_ms,
        "received_ms": row.received_ms,
    }


def _damaged(
    connection: Connection, row: Row[Any], error: ProtocolError, now_ms: int
) -> list[dict[str, Any]]:
    """Hold all records of a row that does not open, and tell an admin."""
    last = row.first + row.count - 1
    detail = f"row {row.id} of the log, {row.stream} {row.first} to {last}, cannot be read: {error}"
    tell(connection, now_ms, error.code, row.node, detail)
    poison = Poison(None, error.code, str(error))
    return [_held(row, seq, poison, now_ms) for seq in range(row.first, last + 1)]


def _held(row: Row[Any], seq: int, poison: Poison, now_ms: int) -> dict[str, Any]:
    return {
        "log_id": row.id,
        "seq": seq,
        "node": row.node,
        "stream": row.stream,
        "code": poison.code,
        "reason": poison.reason,
        "state": tables.HELD,
        "at_ms": now_ms,
        "record_id": poison.id,
        "kind": poison.kind and poison.kind.replace("\0", "\ufffd"),  # PostgreSQL takes none
    }


def _held_before(db: Connection, identity: bytes, row: Row[Any], seq: int) -> bool:
    """Whether a record waits already, or was decided upon, at another place: a fork repeats it."""
    table = tables.quarantine.c
    elsewhere = (table.log_id != row.id) | (table.seq != seq)
    query = select(exists().where(table.record_id == identity, elsewhere))
    return bool(db.execute(query).scalar())
