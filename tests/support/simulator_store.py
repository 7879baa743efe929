"""What survives a crash in the simulator: a writer's outbox and a receiver's inbox.

Both ends of the wire have both: the box's outbox feeds the hub's inbox, and the hub's outbox of
down streams feeds the box's. Everything here is durable; whoever holds one calls its methods as
commits. ``copy`` is a backup, an image of a card, or a clone.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from lianzhen_protocol import chain, kinds, records
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.hello import Parentage
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import lane_of
from lianzhen_protocol.marks import ForkReason, Position
from lianzhen_protocol.sender import Cut, Outgoing

NODE = NodeId("n0123456789ab")

Place = tuple[Epoch, str]
"""Which stream of which epoch."""

Wrote = Callable[[Place, bytes, bytes, bytes], None]
"""Told of every record written: (place, hash before, record, hash after)."""


class Row(NamedTuple):
    """A record in an outbox, and the chain hash after it."""

    record: bytes
    hash: bytes


@dataclass
class Line:
    """One stream of a writer: rows after ``safe``, the older ones are deleted."""

    safe_hash: bytes
    safe: int = 0
    committed: int = 0
    rows: list[Row] = field(default_factory=list)

    @property
    def last(self) -> int:
        """Sequence number of the newest record."""
        return self.safe + len(self.rows)

    def hash_at(self, seq: int) -> bytes | None:
        """Chain hash after ``seq``, where it is still known."""
        if seq == self.safe:
            return self.safe_hash
        return self.rows[seq - self.safe - 1].hash if self.safe < seq <= self.last else None

    def copy(self) -> Self:
        """An independent copy."""
        return type(self)(self.safe_hash, self.safe, self.committed, list(self.rows))


@dataclass
class Outbox:
    """A writer's journal: what is not yet safe at the other end."""

    epoch: Epoch
    parentage: Parentage | None = None
    lines: dict[str, Line] = field(default_factory=dict)
    digests: set[bytes] = field(default_factory=set)
    """Of every record that was ever put: a repeated put changes nothing."""

    def append(self, stream: str, record: bytes, wrote: Wrote) -> bool:
        """Write a record down; False if it was here already."""
        digest = hashlib.sha256(record).digest()
        if digest in self.digests:
            return False
        self.digests.add(digest)
        genesis = chain.genesis(NODE, self.epoch, stream)
        line = self.lines.setdefault(stream, Line(genesis))
        self._extend(stream, line, record, wrote)
        return True

    def _extend(self, stream: str, line: Line, record: bytes, wrote: Wrote) -> None:
        before = line.rows[-1].hash if line.rows else line.safe_hash
        after = chain.extend(before, record)
        line.rows.append(Row(record, after))
        wrote((self.epoch, stream), before, record, after)

    def fork(self, fresh: Epoch, reason: ForkReason, wrote: Wrote) -> None:
        """Leave the epoch: all that is not safe is written anew, from 1, under ``fresh``."""
        self.epoch, self.parentage = fresh, Parentage(self.epoch, reason)
        for stream, old in self.lines.items():
            line = self.lines[stream] = Line(chain.genesis(NODE, fresh, stream))
            for record in self.unsafe(old):
                self._extend(stream, line, record, wrote)

    def unsafe(self, line: Line) -> list[bytes]:
        """What a fork takes along."""
        return [row.record for row in line.rows]

    def advance(self, stream: str, committed: int, safe: int) -> None:
        """The receiver's marks: stop sending up to ``committed``, delete up to ``safe``."""
        line = self.lines[stream]
        line.committed = committed
        if safe > line.safe:
            gone = safe - line.safe
            line.safe_hash = line.rows[gone - 1].hash
            line.safe, line.rows = safe, line.rows[gone:]

    def hash_at(self, stream: str, seq: int) -> bytes | None:
        """HashLookup, for the Sender."""
        line = self.lines.get(stream)
        return line.hash_at(seq) if line else None

    def read(self, cut: Cut) -> tuple[bytes, tuple[bytes, ...]]:
        """The hash before a cut, and its records: at least one."""
        line = self.lines[cut.stream]
        before = line.hash_at(cut.first - 1)
        assert before is not None, f"a cut of deleted records: {cut}"
        found: list[bytes] = []
        at = cut.first - line.safe - 1
        for row in line.rows[at : at + cut.max_records]:
            if found and sum(map(len, found)) + len(row.record) > cut.max_bytes:
                break
            found.append(row.record)
        return before, tuple(found)

    def outgoing(self, stream: str) -> Outgoing:
        """A stream as its Sender begins with it."""
        line = self.lines[stream]
        lane = lane_of(stream)
        return Outgoing(stream, lane, line.last, line.committed, line.safe, line.committed)

    def records(self) -> set[bytes]:
        """All that is held."""
        return {row.record for line in self.lines.values() for row in line.rows}

    def copy(self) -> Self:
        """An independent copy."""
        lines = {name: line.copy() for name, line in self.lines.items()}
        return type(self)(self.epoch, self.parentage, lines, set(self.digests))


class Taken(NamedTuple):
    """One row of a receiver's log."""

    place: Place
    first: int
    records: tuple[bytes, ...]


@dataclass
class Inbox:
    """A receiver's log, its marks, and what it made of the records."""

    log: list[Taken] = field(default_factory=list)
    marks: dict[Place, Position] = field(default_factory=dict)
    cursor: int = 0
    """How much of the log is projected."""
    applied: list[bytes] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    quarantine: dict[bytes, str] = field(default_factory=dict)
    """Record -> code."""

    def mark(self, place: Place) -> Position:
        """How far a stream is committed."""
        found = self.marks.get(place)
        return found or Position(0, chain.genesis(NODE, *place))

    def project(self) -> bool:
        """Apply the next row of the log, as one commit; False at its end."""
        if self.cursor == len(self.log):
            return False
        for record in self.log[self.cursor].records:
            self._apply(record)
        self.cursor += 1
        return True

    def _apply(self, wire: bytes) -> None:
        try:
            record = records.decode(wire)
            if self.is_known(record.id):
                return
            kinds.open_body(record)
        except RecordError as error:
            self.quarantine[wire] = error.code
            return
        self.seen.add(record.id)
        self.applied.append(wire)

    def is_known(self, identity: bytes) -> bool:
        """Whether this record was applied before, perhaps from another epoch."""
        return identity in self.seen

    def records(self) -> Iterator[bytes]:
        """Everything in the log, in its order, repetitions too."""
        for taken in self.log:
            yield from taken.records

    def between(self, place: Place, after: int, last: int) -> set[bytes]:
        """Records ``after`` + 1 to ``last`` of a stream."""
        return {
            record
            for taken in self.log
            if taken.place == place
            for seq, record in enumerate(taken.records, taken.first)
            if after < seq <= last
        }

    def copy(self) -> Self:
        """An independent copy."""
        return type(self)(
            list(self.log),
            dict(self.marks),
            self.cursor,
            list(self.applied),
            set(self.seen),
            dict(self.quarantine),
        )
