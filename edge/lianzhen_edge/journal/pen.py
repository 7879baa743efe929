"""What the journal's writer thread does inside a transaction: append, advance, fork, take down.

Keeps each stream's end in memory; ``settled`` makes that follow what really was committed.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from lianzhen_protocol import chain
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Lane
from lianzhen_protocol.marks import ForkReason
from lianzhen_protocol.receiver import Accepted
from lianzhen_protocol.sealing import KEY_BYTES, record_place
from lianzhen_protocol.sender import Advanced
from lianzhen_runtime.errors import Unavailable

from . import inbox
from .book import Book, Meanings, Origin, Page
from .errors import JournalFull
from .schema import place_of, present_epoch, savepoint
from .seals import Seals

LOST = (1 << 40) - 1
"""Number of an item whose record is lost: behind everything that is ever sent."""

_ID_CHUNK = 500
_FORK_CHUNK = 1000


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """Where a record lies; ``fresh`` is False for one that the journal had already."""

    stream: str
    seq: int
    fresh: bool


Result = TypeVar("Result")


class Undone(NamedTuple):
    """A piece of work that raised: nothing of it is left, and its neighbours are committed."""

    error: Exception


class Done(NamedTuple, Generic[Result]):
    """A piece of work that went through."""

    result: Result


class Touched(NamedTuple):
    """What a transaction changed: streams that grew, and sheets as (kind, key)."""

    streams: set[str]
    sheets: set[tuple[str, str]]


class _Head(msgspec.Struct):
    """A stream's end, as the writer's thread knows it."""

    id: int
    name: str
    lane: Lane
    last: int
    last_hash: bytes


class Pen:
    """Writes on the one writing connection. No method begins or ends a transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        node: NodeId,
        seals: Seals,
        now_ms: Callable[[], int],
        meanings: Meanings,
    ) -> None:
        self._db = db
        self._node = node
        self._seals = seals
        self._now_ms = now_ms
        self._meanings = meanings
        self._heads: dict[str, _Head] = {}
        self._touched = Touched(set(), set())
        self._epoch = self._durable_epoch = self._begin(node)

    def append(self, name: str, lane: Lane, batch: Sequence[tuple[bytes, bytes]]) -> list[Placed]:
        """Append (id, record) to a stream; what is known already keeps its place."""
        head = self._head(name, lane)
        known = _known(self._db, [identity for identity, _ in batch])
        now = self._now_ms()
        answer, rows, items, size = [], [], [], 0
        for identity, entry in batch:
            if identity in known:
                answer.append(Placed(*known[identity], False))
                continue
            head.last += 1
            head.last_hash = chain.extend(head.last_hash, entry)
            sealed = self._seals.seal(self._epoch, name, head.last, entry)
            size += len(sealed)
            rows.append((place_of(head.id, head.last), now, head.last_hash, sealed))
            items.append((identity, head.id, head.last))
            known[identity] = (name, head.last)
            answer.append(Placed(name, head.last, True))
        self._db.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?)", rows)
        self._db.executemany(
            "INSERT INTO item (id, stream, seq) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET stream = excluded.stream, seq = excluded.seq, rejected = NULL",  # it was lost
            items,
        )
        self._db.execute(
            "UPDATE stream SET last = ?, last_hash = ?, waiting_bytes = waiting_bytes + ?"
            " WHERE id = ?",
            (head.last, head.last_hash, size, head.id),
        )
        self._touched.streams.add(name)
        return answer

    def advance(self, moves: Iterable[tuple[Epoch, Advanced]]) -> None:
        """Note marks of the present epoch, and delete what is safe."""
        for epoch, move in moves:
            if epoch != self._epoch:
                continue
            number, committed, safe = self._db.execute(
                "SELECT id, committed, safe FROM stream WHERE name = ?", (move.stream,)
            ).fetchone()
            self._commit(number, committed, move.committed)
            if move.safe > safe:
                edge = place_of(number, move.safe)
                self._db.execute(
                    "UPDATE stream SET safe = ?,"
                    " safe_hash = (SELECT chain FROM outbox WHERE place = ?) WHERE id = ?",
                    (move.safe, edge, number),
                )
                self._db.execute(
                    "DELETE FROM outbox WHERE place > ? AND place <= ?",
                    (place_of(number, safe), edge),
                )

    def _commit(self, number: int, before: int, committed: int) -> None:
        """Move a stream's mark, and what waits with it: back as well, for a restored hub."""
        edges = place_of(number, min(before, committed)), place_of(number, max(before, committed))
        (size,) = self._db.execute(
            "SELECT coalesce(sum(length(sealed)), 0) FROM outbox WHERE place > ? AND place <= ?",
            edges,
        ).fetchone()
        self._db.execute(
            "UPDATE stream SET committed = ?, waiting_bytes = waiting_bytes - ?,"
            " committed_ms = iif(? > committed, ?, committed_ms) WHERE id = ?",
            (
                *(committed, size if committed > before else -size),
                *(committed, self._now_ms(), number),
            ),
        )

    def fork(self, reason: ForkReason, leaving: Epoch) -> None:
        """Move all that is not safe into a new epoch, unless ``leaving`` was left already."""
        if leaving != self._epoch:
            return
        old = self._epoch
        new = self._new_epoch(old, reason)
        for number, name, safe in self._db.execute("SELECT id, name, safe FROM stream").fetchall():
            self._touched.streams.add(name)
            last, hash_, size = self._renumber(number, name, safe, old, new)
            genesis = chain.genesis(self._node, new, name)
            self._db.execute(
                "UPDATE stream SET last = ?, last_hash = ?, committed = 0, safe = 0, safe_hash = ?,"
                " waiting_bytes = ? WHERE id = ?",
                (last, hash_, genesis, size, number),
            )
        self._heads.clear()
        self._epoch = new

    def work(
        self, work: Callable[[Book], Result], full: JournalFull | None = None
    ) -> Done[Result] | Undone:
        """Run a piece of work under a savepoint: what it raises undoes it, and nothing else.

        ``full``: only the reserve is left, and this is raised where it must not be used. A fault
        of the disk is no fault of the work's, and ends the whole transaction.
        """
        book = Book(
            *(self._db, self._node, self._seals, self._now_ms()),
            *(self._append_new, self._meanings, full),
        )
        try:
            with savepoint(self._db):
                result = work(book)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - handed to its caller
            self._heads.clear()
            return Undone(error)
        self._touched.sheets.update(book.changed)
        return Done(result)

    def _append_new(self, name: str, lane: Lane, batch: Sequence[tuple[bytes, bytes]]) -> bool:
        return all(placed.fresh for placed in self.append(name, lane, batch))

    def take(self, epoch: Epoch, stream: str, accepted: Accepted) -> None:
        """Apply down records and move their mark; keep what this release cannot apply."""
        mine = self._epoch

        def seal(seq: int, entry: bytes) -> bytes:
            return self._seals.seal(epoch, stream, seq, entry, key=mine)

        page = Page(self._db, self._node, self._seals, self._now_ms(), Origin.HUB)
        inbox.take(self._db, epoch, stream, accepted, seal, mine, page, self._meanings)
        self._touched.sheets.update(page.changed)

    def try_again(self) -> None:
        """Apply what came down to an earlier release that could not."""

        def unseal(key: Epoch, epoch: Epoch, stream: str, seq: int, sealed: bytes) -> bytes:
            return self._seals.open_at(key, record_place(self._node, epoch, stream, seq), sealed)

        page = Page(self._db, self._node, self._seals, self._now_ms(), Origin.HUB)
        inbox.try_again(self._db, unseal, page, self._meanings)
        self._touched.sheets.update(page.changed)

    def recognise(self, hardware: str) -> None:
        """Fork if another machine wrote this journal; remember this one."""
        (known,) = self._db.execute("SELECT hardware FROM about").fetchone()
        if known is not None and known != hardware:
            self.fork(ForkReason.FOREIGN_HARDWARE, self._epoch)
        self._db.execute("UPDATE about SET hardware = ?", (hardware,))

    def settled(self, committed: bool) -> Touched:
        """After each transaction: what it touched, nothing if it was rolled back."""
        touched, self._touched = self._touched, Touched(set(), set())
        if committed:
            self._durable_epoch = self._epoch
            return touched
        self._heads.clear()
        self._epoch = self._durable_epoch  # from memory: the disk may just not be readable
        return Touched(set(), set())

    def _begin(self, node: NodeId) -> Epoch:
        """Load every epoch's key; make the first epoch of a new journal."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT node FROM about").fetchone()
        if row is None:
            db.execute("INSERT INTO about (id, node) VALUES (1, ?)", (node,))
            self._new_epoch(None, None)
        elif row[0] != node:
            db.execute("ROLLBACK")
            raise Unavailable(f"this journal belongs to {row[0]}, and this box is {node}")
        self._seals.load(db)
        page = Page(db, node, self._seals, self._now_ms(), Origin.HERE)
        page.keep_pseudonym_key(secrets.token_bytes(KEY_BYTES))
        db.execute("COMMIT")
        return present_epoch(db)

    def _new_epoch(self, parent: bytes | None, reason: str | None) -> Epoch:
        fresh = Epoch(secrets.token_bytes(16))
        wrapped = self._seals.create(fresh)
        self._db.execute(
            "INSERT INTO epoch (id, parent, reason, began_ms, kek_version, key_sealed)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (fresh, parent, reason, self._now_ms(), *wrapped),
        )
        return fresh

    def _head(self, name: str, lane: Lane) -> _Head:
        head = self._heads.get(name)
        if head is None:
            genesis = chain.genesis(self._node, self._epoch, name)
            self._db.execute(
                "INSERT OR IGNORE INTO stream (name, lane, last, last_hash, committed, safe,"
                " safe_hash) VALUES (?, ?, 0, ?, 0, 0, ?)",
                (name, lane, genesis, genesis),
            )
            row = self._db.execute(
                "SELECT id, name, lane, last, last_hash FROM stream WHERE name = ?", (name,)
            ).fetchone()
            head = self._heads[name] = _Head(row[0], row[1], Lane(row[2]), row[3], row[4])
        return head

    def _renumber(
        self, number: int, name: str, safe: int, old: Epoch, new: Epoch
    ) -> tuple[int, bytes, int]:
        """Move a stream's unsafe records to 1, 2, ... of a new epoch; its new last, hash, size."""
        seq, hash_, size = 0, chain.genesis(self._node, new, name), 0
        lost: list[int] = []
        floor, done, ceiling = place_of(number, 0), place_of(number, 0), place_of(number + 1, 0)
        query = (
            "SELECT place, sealed FROM outbox WHERE place > ? AND place < ? ORDER BY place LIMIT ?"
        )
        # In pieces, as a backlog may be larger than memory; a moved row lies behind ``done``.
        while rows := self._db.execute(query, (done, ceiling, _FORK_CHUNK)).fetchall():
            for done, sealed in rows:
                entry = self._salvage(old, name, done - floor, sealed)
                if entry is None:
                    lost.append(done - floor)
                    self._db.execute("DELETE FROM outbox WHERE place = ?", (done,))
                    continue
                seq += 1
                hash_ = chain.extend(hash_, entry)
                fresh = self._seals.seal(new, name, seq, entry)
                size += len(fresh)
                self._db.execute(
                    "UPDATE outbox SET place = ?, chain = ?, sealed = ? WHERE place = ?",
                    (floor + seq, hash_, fresh, done),
                )
        self._renumber_items(number, safe, lost)
        return seq, hash_, size

    def _renumber_items(self, number: int, safe: int, lost: list[int]) -> None:
        """Let items follow their records; those of lost records say so, and never get further."""
        for seq in reversed(lost):
            self._db.execute(
                "UPDATE item SET seq = ?, rejected = ? WHERE stream = ? AND seq = ?",
                (LOST, "damaged: this disk lost the record", number, seq),
            )
            self._db.execute(
                "UPDATE item SET seq = seq - 1 WHERE stream = ? AND seq > ? AND seq < ?",
                (number, seq, LOST),
            )
        self._db.execute(
            "UPDATE item SET seq = max(0, seq - ?) WHERE stream = ? AND seq > 0 AND seq < ?",
            (safe, number, LOST),
        )

    def _salvage(self, epoch: Epoch, stream: str, seq: int, sealed: bytes) -> bytes | None:
        """A record on its way into a new epoch; None, and set aside, if the disk damaged it."""
        try:
            return self._seals.open(epoch, stream, seq, sealed)
        except SealBroken:
            row = (stream, epoch, seq, sealed, self._now_ms())
            self._db.execute("INSERT INTO damaged VALUES (?, ?, ?, ?, ?)", row)
            return None


def _known(db: sqlite3.Connection, identities: Sequence[bytes]) -> dict[bytes, tuple[str, int]]:
    """The places of those records that the journal has already, and has not lost."""
    known: dict[bytes, tuple[str, int]] = {}
    for at in range(0, len(identities), _ID_CHUNK):
        chunk = identities[at : at + _ID_CHUNK]
        marks = ",".join("?" * len(chunk))
        query = (
            "SELECT item.id, name, seq FROM item JOIN stream ON stream.id = item.stream"  # noqa: S608
            f" WHERE item.id IN ({marks}) AND seq < {LOST}"  # only question marks
        )
        known |= {identity: (name, seq) for identity, name, seq in db.execute(query, chunk)}
    return known
