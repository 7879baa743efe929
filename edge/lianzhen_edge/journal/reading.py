"""What the journal holds, read on a connection of its own (and so from one thread, the loop's)."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from lianzhen_protocol import chain
from lianzhen_protocol.audit import Verdict
from lianzhen_protocol.hello import MAX_HELLO_STREAMS, DownMark, Parentage, StreamClaim
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group, Lane
from lianzhen_protocol.marks import Position
from lianzhen_protocol.sender import Outgoing

from . import schema
from .room import Extent
from .schema import place_of, present_epoch
from .seals import Seals
from .sheets import JournalSheets
from .states import Item, StreamState, state_of


class Run(NamedTuple):
    """Consecutive records of a stream as they are now; ``before`` is the hash before them."""

    epoch: Epoch
    before: bytes
    records: tuple[bytes, ...]


class Rejection(msgspec.Struct, frozen=True):
    """A record that the hub kept but did not apply: a stable code, and a reason for people."""

    id: str
    stream: str
    code: str
    reason: str


class Tally(NamedTuple):
    """So many things of so many bytes that only this disk holds."""

    items: int
    size: int
    moved_ms: int | None


class Opening(NamedTuple):
    """What a session's hello says of this journal, all of one moment."""

    epoch: Epoch
    parentage: Parentage | None
    streams: list[Outgoing]
    claims: list[StreamClaim]
    down: list[DownMark]


class JournalReader:
    """Every method is a query of what is committed now."""

    def __init__(self, path: Path, node: NodeId, seals: Seals) -> None:
        self.node = self._node = node
        self._path = path
        self._seals = seals
        self._db = schema.connect(path, reader=True)
        self.sheets = JournalSheets(self._db, node, seals)
        """What is committed now; to be read only, and on the loop's thread."""

    @property
    def epoch(self) -> Epoch:
        """The present epoch."""
        return present_epoch(self._db)

    def audit_verdict(self) -> Verdict:
        """Walk the whole audit log, on a connection of its own: for a thread beside the loop."""
        db = schema.connect(self._path, reader=True)
        try:
            return JournalSheets(db, self._node, self._seals).audit_verify(self._node)
        finally:
            db.close()

    def opening(self, group: Group) -> Opening:
        """What to say in a hello, and the session's streams as its Sender begins with them.

        Only streams that hold something unsafe are claimed, the fullest first; the others join
        with their next record. Down streams come by the urgent session.
        """
        self._db.execute("BEGIN")
        try:
            epoch, parent, reason = self._db.execute(
                "SELECT id, parent, reason FROM epoch ORDER BY number DESC LIMIT 1"
            ).fetchone()
            rows = self._db.execute(
                "SELECT name, last, last_hash, safe, lane FROM stream WHERE last > safe"
                " ORDER BY last - safe DESC"
            )
            claims = (
                StreamClaim(name, Position(last, hash_), safe)
                for name, last, hash_, safe, lane in rows
                if Lane(lane).group is group
            )
            return Opening(
                Epoch(epoch),
                None if parent is None else Parentage(parent, reason),
                [stream for stream in self.streams() if stream.lane.group is group],
                list(islice(claims, MAX_HELLO_STREAMS)),
                self._down_marks() if group is Group.URGENT else [],
            )
        finally:
            self._db.execute("COMMIT")

    def streams(self, names: Iterable[str] | None = None) -> list[Outgoing]:
        """Streams as a Sender wants them: all, or those named."""
        query = "SELECT name, lane, last, committed, safe FROM stream"
        rows = (
            self._db.execute(query).fetchall()
            if names is None
            else [
                row
                for name in names
                for row in self._db.execute(f"{query} WHERE name = ?", (name,)).fetchall()
            ]
        )
        return [
            Outgoing(name, Lane(lane), last, committed, safe, committed)
            for name, lane, last, committed, safe in rows
        ]

    def hash_at(self, stream: str, seq: int) -> bytes | None:
        """The chain hash after a record; None where the journal has it no more, or not yet."""
        row = self._db.execute(
            # One statement, as the writer may move ``safe`` and delete between two.
            "SELECT iif(safe = ?1, safe_hash, (SELECT chain FROM outbox"
            " WHERE place = stream.id << 40 | ?1)) FROM stream WHERE name = ?2",
            (seq, stream),
        ).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def read(self, stream: str, first: int, max_records: int, max_bytes: int) -> Run:
        """Records from ``first`` on within both limits (at least one), from one snapshot."""
        self._db.execute("BEGIN")
        try:
            epoch = self.epoch
            before = self.hash_at(stream, first - 1)
            if before is None:  # deleted meanwhile: what lies behind has other numbers
                return Run(epoch, b"", ())
            (number,) = self._db.execute(
                "SELECT id FROM stream WHERE name = ?", (stream,)
            ).fetchone()
            rows = self._db.execute(
                "SELECT place, sealed FROM outbox WHERE place >= ? AND place < ? ORDER BY place",
                (place_of(number, first), place_of(number, first + max_records)),
            )
            found = list(self._opened(epoch, stream, first, rows, max_bytes))
        finally:
            self._db.execute("COMMIT")
        return Run(epoch, before, tuple(found))

    def down_mark(self, epoch: Epoch, stream: str) -> Position:
        """How far one down stream is in: its genesis if nothing came yet."""
        row = self._db.execute(
            "SELECT committed, hash FROM down_mark WHERE epoch = ? AND stream = ?", (epoch, stream)
        ).fetchone()
        return Position(*row) if row else Position(0, chain.genesis(self._node, epoch, stream))

    def holds_unsafe(self, group: Group) -> bool:
        """Whether any stream of a session holds something that is not yet safe."""
        rows = self._db.execute("SELECT DISTINCT lane FROM stream WHERE last > safe")
        return any(Lane(lane).group is group for (lane,) in rows)

    def stream_states(self) -> list[StreamState]:
        """Every stream in numbers, for status pages and metrics."""
        rows = self._db.execute(
            "SELECT name, last, committed, safe, (SELECT put_ms FROM outbox"
            " WHERE place = stream.id << 40 | (stream.committed + 1)),"
            " waiting_bytes, committed_ms, seen_count, rejected_count FROM stream ORDER BY name"
        )
        fields = StreamState.__struct_fields__
        return [StreamState(**dict(zip(fields, row, strict=True))) for row in rows]

    def tally(self, name: str) -> Tally:
        """What waits here and is no record, by its name."""
        row = self._db.execute(
            "SELECT count, bytes, moved_ms FROM tally WHERE name = ?", (name,)
        ).fetchone()
        return Tally(*row) if row else Tally(0, 0, None)

    def item(self, identity: bytes, sent: Callable[[str], int]) -> Item | None:
        """A record by its id; ``sent`` says how far a stream was handed to the line."""
        row = self._db.execute(
            "SELECT name, seq, rejected, seen_ms, seen_by, committed, safe"
            " FROM item JOIN stream ON stream.id = item.stream WHERE item.id = ?",
            (identity,),
        ).fetchone()
        if row is None:
            return None
        name, seq, rejected, seen_ms, seen_by, committed, safe = row
        state = state_of(
            seq, sent=sent(name), committed=committed, safe=safe, seen=seen_ms is not None
        )
        return Item(
            id=identity.hex(),
            stream=name,
            seq=seq,
            state=state,
            rejected=rejected,
            seen_by=seen_by,
            seen_ms=seen_ms,
        )

    def rejections(self, limit: int) -> list[Rejection]:
        """What the hub could not apply, or this disk lost: the newest first."""
        rows = self._db.execute(
            "SELECT item.id, name, rejected FROM item JOIN stream ON stream.id = item.stream"
            " WHERE rejected IS NOT NULL ORDER BY item.id DESC LIMIT ?",
            (limit,),
        )
        return [Rejection(raw.hex(), name, *_parted(text)) for raw, name, text in rows.fetchall()]

    def extent(self) -> Extent:
        """How large the file is, with what its write-ahead log adds, and what is free within."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return Extent(pages * size, free * size)

    def held(self) -> int:
        """Down records that this release could not apply."""
        (count,) = self._db.execute("SELECT count(*) FROM inbox").fetchone()
        return int(count)

    def _down_marks(self) -> list[DownMark]:
        rows = self._db.execute("SELECT epoch, stream, committed, hash FROM down_mark")
        return [DownMark(epoch, name, Position(seq, hash_)) for epoch, name, seq, hash_ in rows]

    def _opened(
        self,
        epoch: Epoch,
        stream: str,
        first: int,
        rows: Iterable[tuple[int, bytes]],
        max_bytes: int,
    ) -> Iterator[bytes]:
        size = 0
        for seq, (_, sealed) in enumerate(rows, first):
            entry = self._seals.open(epoch, stream, seq, sealed)
            size += len(entry)
            if size > max_bytes and seq > first:
                return
            yield entry


def _parted(text: str) -> tuple[str, str]:
    code, _, reason = text.partition(": ")
    return code, reason
