"""From frames to the log: one transaction appends the records and moves the marks.

Runs on the database's writer thread. Whoever calls it sends the acknowledgements, and only
after the transaction has been committed.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from lianzhen_hub.store import sql, tables
from lianzhen_protocol import chain
from lianzhen_protocol.errors import FrameError, ProtocolError
from lianzhen_protocol.frame import Frame, FrameCodec, body_of
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group, lane_of
from lianzhen_protocol.marks import Position, StreamMark
from lianzhen_protocol.receiver import Accepted, Divergent, Gap, receive
from lianzhen_protocol.sealing import NONCE_BYTES, record_place
from lianzhen_protocol.short_frame import Short, ShortCodec, is_short
from lianzhen_runtime.log import Log

from .vault import Vault

_log = Log("lianzhen.intake")


class Arrived(NamedTuple):
    """A frame as the broker delivered it: the topic's node and stream, and the bytes."""

    node: NodeId
    stream: str
    wire: bytes


class Mark(NamedTuple):
    """How far a stream is in, and how far that is safe."""

    committed: Position
    safe: int


class StreamKey(NamedTuple):
    """A stream of one epoch of one box."""

    node: NodeId
    epoch: Epoch
    stream: str


class Turned(NamedTuple):
    """A frame that was not taken. ``code`` is ``unknown-session``, or that of its error."""

    node: NodeId
    group: Group
    code: str
    detail: str


class Outcome(NamedTuple):
    """What one transaction did: marks to acknowledge, and what was turned away."""

    marks: dict[StreamKey, StreamMark]
    moved: dict[StreamKey, Mark]
    turned: list[Turned]
    records: int


Admitted = Callable[[NodeId, Group, Epoch], bool]
"""Whether a box has said hello for this group and epoch, and may speak."""

Epochs = Callable[[NodeId, Group], Iterable[Epoch]]
"""Those of a box's hellos, to find that of a short frame among them."""

UNKNOWN_SESSION = "unknown-session"


class Overtaken(Exception):
    """Somebody else moved one of these streams since we looked: nothing of this was committed."""


class Intake:
    """Commits frames. ``safe_on_commit``: this database is its own backup, by configuration."""

    def __init__(
        self,
        vault: Vault,
        admitted: Admitted,
        epochs: Epochs = lambda *_: (),
        *,
        safe_on_commit: bool,
    ) -> None:
        self._vault = vault
        self._admitted = admitted
        self._epochs = epochs
        self._safe_on_commit = safe_on_commit
        self._codec, self._short = FrameCodec(), ShortCodec()
        self._marks: dict[NodeId, dict[StreamKey, Mark]] = {}

    def commit(self, connection: Connection, batch: Sequence[Arrived], now_ms: int) -> Outcome:
        """Append what is new in ``batch``; call ``settle`` once the transaction is committed."""
        outcome = Outcome({}, {}, [], 0)
        rows, read = [], dict[StreamKey, int]()
        count = 0
        for arrived in batch:
            admitted = self._admit(arrived, outcome)
            if admitted is None:
                continue
            epoch, frame = admitted
            key = StreamKey(arrived.node, epoch, arrived.stream)
            mark = outcome.moved.get(key) or self.mark(connection, key)
            if isinstance(frame, Short):
                frame = frame.place(epoch, arrived.stream, mark.committed)
            verdict = receive(mark.committed, frame)
            if isinstance(verdict, Accepted):
                read.setdefault(key, mark.committed.seq)
                safe = verdict.position.seq if self._safe_on_commit else mark.safe
                mark = outcome.moved[key] = Mark(verdict.position, safe)
                count += len(verdict.records)
                rows.append(self._row(connection, key, frame, verdict, arrived.wire, now_ms))
            gap = isinstance(verdict, Gap | Divergent)
            outcome.marks[key] = StreamMark(frame.stream, mark.committed, mark.safe, gap)
        if rows:
            # The marks first: a transaction that has written shows in every snapshot before it
            # takes a number of the log, and the projector counts on that.
            _move(connection, outcome.moved, read, now_ms)
            sql.insert(connection, tables.log, rows)
        return outcome._replace(records=count)

    def settle(self, outcome: Outcome) -> None:
        """The transaction is committed: remember where its streams stand."""
        for key, mark in outcome.moved.items():
            self._marks.setdefault(key.node, {})[key] = mark

    def forget(self, node: NodeId) -> None:
        """Read a box's marks from the database again."""
        self._marks.pop(node, None)

    def doubt(self) -> None:
        """Read every mark again: a commit whose answer was lost may have happened all the same."""
        self._marks = {}

    def marks_of(
        self, connection: Connection, live: Collection[tuple[NodeId, Epoch]]
    ) -> dict[StreamKey, StreamMark]:
        """Every mark of these epochs, as an acknowledgement says it."""
        table = tables.mark
        found: dict[StreamKey, StreamMark] = {}
        for node, epoch in live:
            query = select(table).where(table.c.node == node, table.c.epoch == epoch)
            for row in connection.execute(query):
                at = Position(row.committed, bytes(row.hash))
                found[StreamKey(node, epoch, row.stream)] = StreamMark(row.stream, at, row.safe)
        return found

    def mark(self, connection: Connection, key: StreamKey) -> Mark:
        """Where a stream stands; at its genesis if nothing of it came yet."""
        if (known := self._marks.get(key.node, {}).get(key)) is not None:
            return known
        table = tables.mark.c
        row = connection.execute(
            select(table.committed, table.hash, table.safe).where(
                table.node == key.node, table.epoch == key.epoch, table.stream == key.stream
            )
        ).one_or_none()
        if row is None:
            return Mark(Position(0, chain.genesis(*key)), 0)
        return Mark(Position(row.committed, row.hash), row.safe)

    def _admit(self, arrived: Arrived, outcome: Outcome) -> tuple[Epoch, Frame | Short] | None:
        """The frame and its epoch, if it can be read and its session is known; else why not, in
        ``outcome``.
        """
        group = Group.URGENT
        try:
            group = lane_of(arrived.stream).group
            epoch, frame = self._read(arrived, group)
        except ProtocolError as error:
            outcome.turned.append(Turned(arrived.node, group, error.code, str(error)))
            return None
        except Exception as error:  # noqa: BLE001 - one frame's surprise must not stop the others
            _log.error("a frame surprised us", exc_info=True, node=arrived.node)
            outcome.turned.append(Turned(arrived.node, group, "unexpected", type(error).__name__))
            return None
        if epoch is None or not self._admitted(arrived.node, group, epoch):
            outcome.turned.append(Turned(arrived.node, group, UNKNOWN_SESSION, ""))
            return None
        return epoch, frame

    def _read(self, arrived: Arrived, group: Group) -> tuple[Epoch | None, Frame | Short]:
        """A frame and its epoch, None for a short one of none that is known; FrameError."""
        if is_short(arrived.wire):
            short = self._short.decode(arrived.wire)
            return next(filter(short.of, self._epochs(arrived.node, group)), None), short
        frame = self._codec.decode(arrived.wire)
        if frame.stream != arrived.stream:
            raise FrameError(f"a frame of {frame.stream} on the topic of {arrived.stream}")
        return frame.epoch, frame

    def _row(
        self,
        connection: Connection,
        key: StreamKey,
        frame: Frame,
        accepted: Accepted,
        wire: bytes,
        now_ms: int,
    ) -> dict[str, object]:
        whole = accepted.first == frame.first and not is_short(wire)
        body = body_of(wire) if whole else self._codec.pack(accepted.records)
        place = record_place(*key, accepted.first)
        data_key = self._vault.key(connection, key.node, key.epoch)
        return {
            **_columns(key),
            "first": accepted.first,
            "count": len(accepted.records),
            "sealed": data_key.seal(secrets.token_bytes(NONCE_BYTES), body, place),
            "received_ms": now_ms,
        }


def _move(
    connection: Connection, moved: dict[StreamKey, Mark], read: dict[StreamKey, int], now_ms: int
) -> None:
    """Move marks from where they were when we read them; Overtaken.

    This alone lets a run in once (decision 21): two ingests of one stream, in the last moments of
    the one and the first of the other, may have read the same mark, and one of them moves it.
    """
    rows = [_mark_row(key, mark, read[key], now_ms) for key, mark in sorted(moved.items())]
    unmoved = ("committed", "moved_from")
    written = sql.upsert(connection, tables.mark, rows, rising="safe", unmoved=unmoved)
    if written != len(rows):
        raise Overtaken


def _columns(key: StreamKey) -> dict[str, object]:
    return {"node": key.node, "epoch": key.epoch, "stream": key.stream}


def _mark_row(key: StreamKey, mark: Mark, moved_from: int, now_ms: int) -> dict[str, object]:
    return {
        **_columns(key),
        "committed": mark.committed.seq,
        "hash": mark.committed.hash,
        "safe": mark.safe,
        "moved_from": moved_from,
        "committed_ms": now_ms,
    }
