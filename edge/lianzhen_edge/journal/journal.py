"""The journal: takes records, hands them out in order, forgets them when they are safe.

A row lies at ``stream id << 40 | seq``, sealed for its place (docs/protocol.md, 8). All streams
share the present epoch; a fork moves every record that is not safe into a new one.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from lianzhen_protocol import chain, records
from lianzhen_protocol.frame import MAX_RECORD_BYTES
from lianzhen_protocol.hello import MAX_HELLO_STREAMS, DownMark, Parentage, StreamClaim
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group, Lane, lane_of
from lianzhen_protocol.marks import ForkReason, Position
from lianzhen_protocol.receiver import Accepted
from lianzhen_protocol.sealing import NONCE_BYTES, SealingKey, record_place
from lianzhen_protocol.sender import Advanced, Outgoing
from lianzhen_protocol.topics import stream_name
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.keys import KeyProvider, WrappedKey, new_data_key, unwrap

from . import inbox, schema
from .errors import RecordTooLarge
from .states import Item, StreamState, state_of
from .writer import GroupWriter

_SEQ_BITS = 40
_ID_CHUNK = 500
_FORK_CHUNK = 1000


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """Where a record lies; ``fresh`` is False for one that the journal had already."""

    stream: str
    seq: int
    fresh: bool


class Run(NamedTuple):
    """Consecutive records of a stream as they are now; ``before`` is the hash before them."""

    epoch: Epoch
    before: bytes
    records: tuple[bytes, ...]


class Opening(NamedTuple):
    """What a session's hello says of this journal, all of one moment."""

    epoch: Epoch
    parentage: Parentage | None
    streams: list[Outgoing]
    claims: list[StreamClaim]
    down: list[DownMark]


class _Head(msgspec.Struct):
    """A stream's end, as the writer's thread knows it."""

    id: int
    name: str
    lane: Lane
    last: int
    last_hash: bytes


class Journal:
    """Open with ``Journal.open``. Methods that write are coroutines and return when it is durable;
    methods that read run on the caller's thread, which must be the loop's.
    """

    def __init__(
        self, path: Path, node: NodeId, keys: KeyProvider, now_ms: Callable[[], int]
    ) -> None:
        self._node = node
        self._keys = keys
        self._now_ms = now_ms
        self._connection = schema.connect(path)
        schema.upgrade(self._connection)
        self._data_keys: dict[Epoch, SealingKey] = {}
        self._heads: dict[str, _Head] = {}
        self._touched: set[str] = set()
        self._listeners: list[Callable[[set[str]], None]] = []
        self._epoch = self._begin()
        self._reader = schema.connect(path, reader=True)
        self._loop = asyncio.get_running_loop()
        self._writer = GroupWriter(self._connection, self._settled)

    @classmethod
    async def open(
        cls,
        path: Path,
        node: NodeId,
        keys: KeyProvider,
        now_ms: Callable[[], int],
        hardware: str | None = None,
    ) -> Self:
        """The journal of ``node`` at ``path``, made if missing.

        ``hardware`` names the machine (None where it has no name of its own): a journal that
        wakes up in another one forks before it sends anything.
        """
        journal = cls(path, node, keys, now_ms)
        await journal._recognise(hardware)
        return journal

    async def close(self) -> None:
        """Commit what is queued, and let go of the file."""
        await self._writer.close()
        self._reader.close()
        self._connection.close()

    # -- writing

    async def put(self, stream: str, entries: Sequence[bytes]) -> list[Placed]:
        """Append records (encoded, see protocol.records) to a stream, in order.

        They are on the disk when this returns. A record whose id the journal knows keeps its
        first place, so a caller that never got its answer just asks again. RecordError for what
        is no record, RecordTooLarge, JournalFull or JournalError: then none was stored.
        """
        lane = lane_of(stream_name(stream))
        batch = [(records.decode(entry).id, entry) for entry in entries]
        for _, entry in batch:
            if len(entry) > MAX_RECORD_BYTES:
                raise RecordTooLarge(f"a record of {len(entry)} bytes; {MAX_RECORD_BYTES} at most")
        return await self._writer.do(lambda db: self._append(db, stream, lane, batch))

    async def advance(self, moves: Iterable[tuple[Epoch, Advanced]]) -> None:
        """Note how far the hub is, and delete what is safe.

        What was said of an epoch that the journal has left means nothing in the new one.
        """
        found = list(moves)
        await self._writer.do(lambda db: self._advance(db, found))

    async def fork(self, reason: ForkReason, leaving: Epoch) -> None:
        """Leave the epoch: a new one that names its parent, and all that is not safe moves in.

        Nothing happens if the journal has left ``leaving`` already: two sessions may find out.
        """
        await self._writer.do(lambda db: self._fork(db, reason, leaving))

    async def receive(self, epoch: Epoch, stream: str, accepted: Accepted) -> None:
        """Take down records in: apply what this release knows, keep what it does not."""
        key_epoch = self._epoch

        def take(db: sqlite3.Connection) -> None:
            inbox.take(
                db,
                epoch,
                stream,
                accepted,
                lambda seq, entry: self._seal(
                    self._data_keys[key_epoch], epoch, stream, seq, entry
                ),
                key_epoch,
            )

        await self._writer.do(take)

    # -- reading

    @property
    def epoch(self) -> Epoch:
        """The present epoch."""
        return _present_epoch(self._reader)

    def opening(self, group: Group) -> Opening:
        """What to say in a hello, and the session's streams as its Sender begins with them.

        Only streams that hold something unsafe are claimed, the fullest first; the others join
        with their next record. Down streams come by the urgent session.
        """
        self._reader.execute("BEGIN")
        try:
            epoch, parent, reason = self._reader.execute(
                "SELECT id, parent, reason FROM epoch ORDER BY number DESC LIMIT 1"
            ).fetchone()
            rows = self._reader.execute(
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
            self._reader.execute("COMMIT")

    def streams(self, names: Iterable[str] | None = None) -> list[Outgoing]:
        """Streams as a Sender wants them: all, or those named."""
        query = "SELECT name, lane, last, committed, safe FROM stream"
        rows = (
            self._reader.execute(query).fetchall()
            if names is None
            else [
                row
                for name in names
                for row in self._reader.execute(f"{query} WHERE name = ?", (name,)).fetchall()
            ]
        )
        return [
            Outgoing(name, Lane(lane), last, committed, safe, committed)
            for name, lane, last, committed, safe in rows
        ]

    def hash_at(self, stream: str, seq: int) -> bytes | None:
        """The chain hash after record ``seq``; None where the journal has it no more, or not yet."""
        row = self._reader.execute(
            "SELECT id, safe, safe_hash FROM stream WHERE name = ?", (stream,)
        ).fetchone()
        if row is None or seq < row[1]:
            return None
        if seq == row[1]:
            return bytes(row[2])
        found = self._reader.execute(
            "SELECT chain FROM outbox WHERE place = ?", (_place(row[0], seq),)
        ).fetchone()
        return found and bytes(found[0])

    def read(self, stream: str, first: int, max_records: int, max_bytes: int) -> Run:
        """Records from ``first`` on within both limits (at least one), from one snapshot."""
        self._reader.execute("BEGIN")
        try:
            epoch = self.epoch
            before = self.hash_at(stream, first - 1)
            (number,) = self._reader.execute(
                "SELECT id FROM stream WHERE name = ?", (stream,)
            ).fetchone()
            rows = self._reader.execute(
                "SELECT place, sealed FROM outbox WHERE place >= ? AND place < ? ORDER BY place",
                (_place(number, first), _place(number, first + max_records)),
            )
            found = list(self._opened(epoch, stream, first, rows, max_bytes))
        finally:
            self._reader.execute("COMMIT")
        return Run(epoch, before or b"", tuple(found) if before is not None else ())

    def _down_marks(self) -> list[DownMark]:
        rows = self._reader.execute("SELECT epoch, stream, committed, hash FROM down_mark")
        return [DownMark(epoch, name, Position(seq, hash_)) for epoch, name, seq, hash_ in rows]

    def down_mark(self, epoch: Epoch, stream: str) -> Position:
        """How far one down stream is in: its genesis if nothing came yet."""
        row = self._reader.execute(
            "SELECT committed, hash FROM down_mark WHERE epoch = ? AND stream = ?", (epoch, stream)
        ).fetchone()
        return Position(*row) if row else Position(0, chain.genesis(self._node, epoch, stream))

    def stream_states(self) -> list[StreamState]:
        """Every stream in numbers, for status pages and metrics."""
        rows = self._reader.execute(
            "SELECT name, last, committed, safe, (SELECT put_ms FROM outbox"
            " WHERE place = stream.id << 40 | (stream.committed + 1)) FROM stream ORDER BY name"
        )
        return [
            StreamState(stream=name, last=last, committed=committed, safe=safe, oldest_ms=oldest)
            for name, last, committed, safe, oldest in rows
        ]

    def item(self, identity: bytes, sent: Callable[[str], int]) -> Item | None:
        """A record by its id; ``sent`` says how far a stream was handed to the line."""
        row = self._reader.execute(
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

    def held(self) -> int:
        """Down records that this release could not apply."""
        (count,) = self._reader.execute("SELECT count(*) FROM inbox").fetchone()
        return int(count)

    def on_append(self, listener: Callable[[set[str]], None]) -> None:
        """Call ``listener`` on the loop with the names of streams that grew or moved epoch."""
        self._listeners.append(listener)

    # -- in the writer's thread

    def _begin(self) -> Epoch:
        """Load every epoch's key; make the first epoch of a new journal."""
        db = self._connection
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT node FROM about").fetchone()
        if row is None:
            db.execute("INSERT INTO about (id, node) VALUES (1, ?)", (self._node,))
            self._new_epoch(db, None, None)
        elif row[0] != self._node:
            db.execute("ROLLBACK")
            raise Unavailable(f"this journal belongs to {row[0]}, and this box is {self._node}")
        for identity, version, sealed in db.execute(
            "SELECT id, kek_version, key_sealed FROM epoch"
        ):
            wrapped = WrappedKey(version, sealed)
            self._data_keys[Epoch(identity)] = unwrap(self._keys, self._node, identity, wrapped)
        db.execute("COMMIT")
        return _present_epoch(db)

    def _new_epoch(self, db: sqlite3.Connection, parent: bytes | None, reason: str | None) -> Epoch:
        fresh = Epoch(secrets.token_bytes(16))
        key, wrapped = new_data_key(self._keys, self._node, fresh)
        self._data_keys[fresh] = key
        db.execute(
            "INSERT INTO epoch (id, parent, reason, began_ms, kek_version, key_sealed)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (fresh, parent, reason, self._now_ms(), *wrapped),
        )
        return fresh

    async def _recognise(self, hardware: str | None) -> None:
        (known,) = self._reader.execute("SELECT hardware FROM about").fetchone()
        if hardware is None or known == hardware:
            return

        def move(db: sqlite3.Connection) -> None:
            if known is not None:
                self._fork(db, ForkReason.FOREIGN_HARDWARE, self._epoch)
            db.execute("UPDATE about SET hardware = ?", (hardware,))

        await self._writer.do(move)

    def _settled(self, committed: bool) -> None:
        touched, self._touched = self._touched, set()
        if not committed:
            self._heads.clear()
            self._epoch = _present_epoch(self._connection)
        elif touched:
            self._loop.call_soon_threadsafe(self._announce, touched)

    def _announce(self, touched: set[str]) -> None:
        for listener in self._listeners:
            listener(touched)

    def _head(self, db: sqlite3.Connection, name: str, lane: Lane) -> _Head:
        head = self._heads.get(name)
        if head is None:
            genesis = chain.genesis(self._node, self._epoch, name)
            db.execute(
                "INSERT OR IGNORE INTO stream (name, lane, last, last_hash, committed, safe,"
                " safe_hash) VALUES (?, ?, 0, ?, 0, 0, ?)",
                (name, lane, genesis, genesis),
            )
            row = db.execute(
                "SELECT id, name, lane, last, last_hash FROM stream WHERE name = ?", (name,)
            ).fetchone()
            head = self._heads[name] = _Head(row[0], row[1], Lane(row[2]), row[3], row[4])
        return head

    def _append(
        self, db: sqlite3.Connection, name: str, lane: Lane, batch: Sequence[tuple[bytes, bytes]]
    ) -> list[Placed]:
        head = self._head(db, name, lane)
        known = _known(db, [identity for identity, _ in batch])
        key, now = self._data_keys[self._epoch], self._now_ms()
        answer, rows, items = [], [], []
        for identity, entry in batch:
            if identity in known:
                answer.append(Placed(*known[identity], False))
                continue
            head.last += 1
            head.last_hash = chain.extend(head.last_hash, entry)
            sealed = self._seal(key, self._epoch, name, head.last, entry)
            rows.append((_place(head.id, head.last), now, head.last_hash, sealed))
            items.append((identity, head.id, head.last))
            known[identity] = (name, head.last)
            answer.append(Placed(name, head.last, True))
        db.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO item (id, stream, seq) VALUES (?, ?, ?)", items)
        db.execute(
            "UPDATE stream SET last = ?, last_hash = ? WHERE id = ?",
            (head.last, head.last_hash, head.id),
        )
        self._touched.add(name)
        return answer

    def _advance(self, db: sqlite3.Connection, moves: Iterable[tuple[Epoch, Advanced]]) -> None:
        for epoch, move in moves:
            if epoch != self._epoch:
                continue
            number, safe = db.execute(
                "SELECT id, safe FROM stream WHERE name = ?", (move.stream,)
            ).fetchone()
            db.execute("UPDATE stream SET committed = ? WHERE id = ?", (move.committed, number))
            if move.safe > safe:
                edge = _place(number, move.safe)
                db.execute(
                    "UPDATE stream SET safe = ?,"
                    " safe_hash = (SELECT chain FROM outbox WHERE place = ?) WHERE id = ?",
                    (move.safe, edge, number),
                )
                db.execute(
                    "DELETE FROM outbox WHERE place > ? AND place <= ?",
                    (_place(number, safe), edge),
                )

    def _fork(self, db: sqlite3.Connection, reason: ForkReason, leaving: Epoch) -> None:
        if leaving != self._epoch:
            return
        old = self._epoch
        new = self._new_epoch(db, old, reason)
        for number, name, safe in db.execute("SELECT id, name, safe FROM stream").fetchall():
            self._touched.add(name)
            last, hash_ = self._renumber(db, number, name, safe, old, new)
            genesis = chain.genesis(self._node, new, name)
            db.execute(
                "UPDATE stream SET last = ?, last_hash = ?, committed = 0, safe = 0, safe_hash = ?"
                " WHERE id = ?",
                (last, hash_, genesis, number),
            )
        self._heads.clear()
        self._epoch = new

    def _renumber(
        self, db: sqlite3.Connection, number: int, name: str, safe: int, old: Epoch, new: Epoch
    ) -> tuple[int, bytes]:
        """Move a stream's unsafe records to 1, 2, ... of a new epoch; its new last and hash."""
        seq, hash_ = 0, chain.genesis(self._node, new, name)
        floor, done, ceiling = _place(number, 0), _place(number, 0), _place(number + 1, 0)
        query = (
            "SELECT place, sealed FROM outbox WHERE place > ? AND place < ? ORDER BY place LIMIT ?"
        )
        # In pieces, as a backlog may be larger than memory; a moved row lies behind ``done``.
        while rows := db.execute(query, (done, ceiling, _FORK_CHUNK)).fetchall():
            for done, sealed in rows:
                was = record_place(self._node, old, name, done - floor)
                entry = self._data_keys[old].open(sealed, was)
                seq += 1
                hash_ = chain.extend(hash_, entry)
                fresh = self._seal(self._data_keys[new], new, name, seq, entry)
                db.execute(
                    "UPDATE outbox SET place = ?, chain = ?, sealed = ? WHERE place = ?",
                    (floor + seq, hash_, fresh, done),
                )
        db.execute(
            "UPDATE item SET seq = max(0, seq - ?) WHERE stream = ? AND seq > 0", (safe, number)
        )
        return seq, hash_

    # -- sealing

    def _seal(self, key: SealingKey, epoch: Epoch, stream: str, seq: int, entry: bytes) -> bytes:
        place = record_place(self._node, epoch, stream, seq)
        return key.seal(secrets.token_bytes(NONCE_BYTES), entry, place)

    def _opened(
        self,
        epoch: Epoch,
        stream: str,
        first: int,
        rows: Iterable[tuple[int, bytes]],
        max_bytes: int,
    ) -> Iterable[bytes]:
        size = 0
        for seq, (_, sealed) in enumerate(rows, first):
            place = record_place(self._node, epoch, stream, seq)
            entry = self._data_keys[epoch].open(sealed, place)
            size += len(entry)
            if size > max_bytes and seq > first:
                return
            yield entry


def _place(stream: int, seq: int) -> int:
    return stream << _SEQ_BITS | seq


def _present_epoch(db: sqlite3.Connection) -> Epoch:
    (identity,) = db.execute("SELECT id FROM epoch ORDER BY number DESC LIMIT 1").fetchone()
    return Epoch(identity)


def _known(db: sqlite3.Connection, identities: Sequence[bytes]) -> dict[bytes, tuple[str, int]]:
    """The places of those records that the journal has already."""
    known = {}
    for at in range(0, len(identities), _ID_CHUNK):
        chunk = identities[at : at + _ID_CHUNK]
        marks = ",".join("?" * len(chunk))
        query = (
            "SELECT item.id, name, seq FROM item JOIN stream ON stream.id = item.stream"
            f" WHERE item.id IN ({marks})"  # noqa: S608 - only question marks
        )
        known |= {identity: (name, seq) for identity, name, seq in db.execute(query, chunk)}
    return known
