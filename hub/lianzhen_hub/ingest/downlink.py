"""Records that go down: kept until the box has committed them, sent by the protocol's Sender.

The hub is the writer here, so the same rules hold as on the box: what a box says of its marks is
compared with our hashes, and a hub that was restored from a backup forks the box's down epoch.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_hub.store.notices import tell
from lianzhen_protocol import chain, kinds
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.frame import Frame, FrameCodec
from lianzhen_protocol.hello import Ack, Hello
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import lane_of
from lianzhen_protocol.marks import Position, StreamMark
from lianzhen_protocol.records import Body
from lianzhen_protocol.sealing import NONCE_BYTES, record_place
from lianzhen_protocol.sender import Advanced, Cut, Effect, Forked, Outgoing, Sender
from lianzhen_runtime.ids import new_id
from lianzhen_runtime.log import Log

from .vault import Vault

KEEP = 1000
"""Committed records kept for each stream, for a box whose card is restored to an older image."""

_CREDIT = 1 << 20
_log = Log("lianzhen.downlink")


class Outbox:
    """What is to go down, in the database. Runs on the writer's thread, in the caller's
    transaction: a record and the reason for it are one commit.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def append(
        self, connection: Connection, node: NodeId, stream: str, body: Body, now_ms: int
    ) -> None:
        """Add a record to a down stream of ``node``."""
        _one_at_a_time(connection, node)
        head = self._head(connection, node, stream)
        entry = kinds.encode(body, new_id(now_ms), now_ms)
        self._write(connection, node, stream, Epoch(head.epoch), head.last, head.last_hash, [entry])

    def fork(self, connection: Connection, node: NodeId, now_ms: int) -> None:
        """Move all that is kept for ``node`` into a new epoch, renumbered from 1.

        What the disk damaged stays behind, and an admin is told.
        """
        _one_at_a_time(connection, node)
        fresh = Epoch(secrets.token_bytes(16))
        for head in self.heads(connection, node):
            entries = self._salvaged(connection, node, head, now_ms)
            table = tables.down.c
            connection.execute(
                delete(tables.down).where(table.node == node, table.stream == head.stream)
            )
            genesis = chain.genesis(node, fresh, head.stream)
            self._update(
                *(connection, node, head.stream),
                epoch=fresh, last=0, last_hash=genesis, committed=0, purged=0, purged_hash=genesis,
            )  # fmt: skip
            self._write(connection, node, head.stream, fresh, 0, genesis, entries)

    def _salvaged(
        self, connection: Connection, node: NodeId, head: Row[Any], now_ms: int
    ) -> list[bytes]:
        try:
            return [entry for _, _, entry in self.rows(connection, node, head, head.purged)]
        except SealBroken:
            entries: list[bytes] = []
        for seq in range(head.purged + 1, head.last + 1):
            try:
                entries += [
                    entry for at, _, entry in self.rows(connection, node, head, seq - 1, seq)
                ]
            except SealBroken as error:
                tell(connection, now_ms, error.code, node, f"{head.stream} {seq} is lost: {error}")
        return entries

    def heads(self, connection: Connection, node: NodeId) -> list[Row[Any]]:
        """The down streams of ``node``."""
        table = tables.down_stream
        return list(connection.execute(select(table).where(table.c.node == node)))

    def written_to(self, connection: Connection, nodes: Collection[NodeId]) -> frozenset[NodeId]:
        """Those of ``nodes`` that have down streams."""
        table = tables.down_stream.c
        query = select(table.node).where(table.node.in_(nodes)).distinct()
        return frozenset(NodeId(found) for found in connection.execute(query).scalars())

    def rows(
        self,
        connection: Connection,
        node: NodeId,
        head: Row[Any],
        after: int,
        to: int | None = None,
    ) -> list[tuple[int, bytes, bytes]]:
        """(seq, chain hash, record) of a stream's records after ``after``, up to ``to`` if given.

        SealBroken if the disk damaged one of them.
        """
        table = tables.down.c
        query = (
            select(table.seq, table.chain, table.sealed)
            .where(
                table.node == node,
                table.stream == head.stream,
                table.seq > after,
                table.seq <= (head.last if to is None else to),
            )
            .order_by(table.seq)
        )
        epoch = Epoch(head.epoch)
        key = self._vault.key(connection, node, epoch)
        return [
            (seq, hash_, key.open(sealed, record_place(node, epoch, head.stream, seq)))
            for seq, hash_, sealed in connection.execute(query)
        ]

    def advance(self, connection: Connection, node: NodeId, moves: Iterable[Advanced]) -> None:
        """Note what the box has; forget all but the last KEEP of it."""
        _one_at_a_time(connection, node)
        for move in moves:
            self._update(connection, node, move.stream, committed=move.committed)
            floor = move.committed - KEEP
            table = tables.down.c
            mine = (table.node == node, table.stream == move.stream)
            hash_ = connection.execute(
                select(table.chain).where(*mine, table.seq == floor)
            ).scalar()
            if hash_ is not None:
                self._update(connection, node, move.stream, purged=floor, purged_hash=hash_)
                connection.execute(delete(tables.down).where(*mine, table.seq <= floor))

    def _head(self, connection: Connection, node: NodeId, stream: str) -> Row[Any]:
        for head in (found := self.heads(connection, node)):
            if head.stream == stream:
                return head
        epoch = Epoch(found[0].epoch) if found else Epoch(secrets.token_bytes(16))
        genesis = chain.genesis(node, epoch, stream)
        connection.execute(
            tables.down_stream.insert().values(
                node=node, stream=stream, epoch=epoch, lane=lane_of(stream), last=0,
                last_hash=genesis, committed=0, purged=0, purged_hash=genesis,
            )
        )  # fmt: skip
        return self._head(connection, node, stream)

    def _write(
        self,
        connection: Connection,
        node: NodeId,
        stream: str,
        epoch: Epoch,
        last: int,
        hash_: bytes,
        entries: list[bytes],
    ) -> None:
        key = self._vault.key(connection, node, epoch)
        rows = []
        for seq, entry in enumerate(entries, last + 1):
            hash_ = chain.extend(hash_, entry)
            place = record_place(node, epoch, stream, seq)
            sealed = key.seal(secrets.token_bytes(NONCE_BYTES), entry, place)
            rows.append(
                {"node": node, "stream": stream, "seq": seq, "chain": hash_, "sealed": sealed}
            )
        if rows:
            connection.execute(tables.down.insert(), rows)
            self._update(connection, node, stream, last=last + len(rows), last_hash=hash_)

    def _update(self, connection: Connection, node: NodeId, stream: str, **values: object) -> None:
        table = tables.down_stream
        mine = (table.c.node == node, table.c.stream == stream)
        connection.execute(update(table).where(*mine).values(**values))


def _one_at_a_time(connection: Connection, node: NodeId) -> None:
    """Until the transaction ends, nobody else changes what goes down to this box.

    The hub appends, and a shard of its ingest forks and forgets, each in a process of its own.
    """
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(node.encode()).digest()[:8], signed=True)
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (key,))


_Found = tuple[Row[Any], list[tuple[int, bytes, bytes]]]


class _Mirror:
    """One box's down streams in memory, as its Sender asks for them."""

    def __init__(self, node: NodeId, session: bytes) -> None:
        self.node = node
        self.session = session
        self.epoch = Epoch(b"")
        self.streams: dict[str, Outgoing] = {}
        self.hashes: dict[str, dict[int, bytes]] = {}
        self.entries: dict[str, dict[int, bytes]] = {}
        self.sender = Sender(self)

    def hash_at(self, stream: str, seq: int) -> bytes | None:
        return self.hashes.get(stream, {}).get(seq)

    def missing(self, connection: Connection, outbox: Outbox) -> list[_Found]:
        """What the database has beyond us. Changes nothing: it runs on a reader's thread."""
        return [
            (head, outbox.rows(connection, self.node, head, self._known(head)))
            for head in outbox.heads(connection, self.node)
        ]

    def absorb(self, found: list[_Found]) -> list[Outgoing]:
        """Take it in; the streams as a Sender wants them."""
        streams = []
        for head, rows in found:
            self.epoch = Epoch(head.epoch)
            hashes = self.hashes.setdefault(head.stream, {head.purged: head.purged_hash})
            entries = self.entries.setdefault(head.stream, {})
            for seq, hash_, entry in rows:
                hashes[seq], entries[seq] = hash_, entry
            last, committed = max(hashes), head.committed
            lane = lane_of(head.stream)
            streams.append(Outgoing(head.stream, lane, last, committed, head.purged, committed))
        return streams

    def take(self, cut: Cut) -> tuple[bytes, ...]:
        """The records of a cut: within its limits, at least one."""
        taken: list[bytes] = []
        size = 0
        for seq in range(cut.first, cut.first + cut.max_records):
            entry = self.entries[cut.stream][seq]
            size += len(entry)
            if taken and size > cut.max_bytes:
                break
            taken.append(entry)
        return tuple(taken)

    def forget(self, moves: Iterable[Advanced]) -> None:
        """The box has these: their bytes are not needed any more in this session."""
        for move in moves:
            entries = self.entries[move.stream]
            for seq in [seq for seq in entries if seq <= move.committed]:
                del entries[seq]

    def _known(self, head: Row[Any]) -> int:
        return max(self.hashes.get(head.stream, (head.purged,)))


Send = Callable[[NodeId, str, bytes], None]
"""Publish a frame on a down stream of a node."""


class Downlink:
    """Sends what lies in the outbox to the boxes that are there, in order, until they have it."""

    def __init__(self, database: Database, outbox: Outbox, send: Send) -> None:
        self._database = database
        self._outbox = outbox
        self._send = send
        self._codec = FrameCodec()
        self._boxes: dict[NodeId, _Mirror] = {}
        self._opening: set[NodeId] = set()
        self._missed: set[NodeId] = set()

    async def open(self, greeted: Sequence[tuple[NodeId, Hello]]) -> None:
        """Boxes said hello: compare what each has with what we sent, then go on from there."""
        self._opening.update(node for node, _ in greeted)
        try:
            nodes = [node for node, _ in greeted]
            written_to = await self._database.read(lambda db: self._outbox.written_to(db, nodes))
            for node, hello in greeted:
                await self._open(node, hello, empty=node not in written_to)
        finally:
            self._opening.clear()
            missed, self._missed = self._missed, set()
        await self.nudge(missed)

    async def _open(self, node: NodeId, hello: Hello, *, empty: bool) -> None:
        while True:
            mirror = _Mirror(node, hello.session)
            try:
                streams = [] if empty else await self._load(mirror)
            except SealBroken as error:
                _log.error("a record to go down is damaged", node=node, code=error.code)
                await self._fork(node)
                continue
            if _is_ahead(hello, mirror.epoch, {stream.name for stream in streams}):
                _log.warning("a box has down streams that we lack, forking", node=node)
                await self._fork(node)
                continue
            mirror.sender.load(streams)
            known = {
                mark.stream: StreamMark(mark.stream, mark.committed, mark.committed.seq)
                for mark in hello.down
                if mark.epoch == mirror.epoch
            }
            for stream in streams:
                genesis = chain.genesis(node, mirror.epoch, stream.name)
                begin = StreamMark(stream.name, Position(0, genesis), 0)
                known.setdefault(stream.name, begin)
            effects = mirror.sender.welcome(known.values(), _CREDIT, time.monotonic())
            if not await self._apply(mirror, effects):
                continue
            self._boxes[node] = mirror
            self._pump(mirror)
            return

    async def acknowledged(self, node: NodeId, ack: Ack) -> bool:
        """A box has committed something. False: it has another history, and must say hello."""
        mirror = self._boxes.get(node)
        if mirror is None or ack.session != mirror.session or ack.epoch != mirror.epoch:
            return True
        effects = mirror.sender.ack(ack.marks, ack.credit, time.monotonic())
        if not await self._apply(mirror, effects):
            return False
        self._pump(mirror)
        return True

    async def nudge(self, nodes: Iterable[NodeId]) -> None:
        """Something was appended for these boxes: send it to those that are there."""
        for node in nodes:
            if node in self._opening:  # what is read of it just now may be older than this
                self._missed.add(node)
            elif (mirror := self._boxes.get(node)) is not None:
                try:
                    grown = await self._load(mirror)
                except SealBroken:
                    self.gone(node)  # its next hello finds the damage and goes around it
                    continue
                if self._boxes.get(node) is not mirror:
                    continue  # it said hello meanwhile, and what is new went with that
                for stream in grown:
                    mirror.sender.appended(stream)
                self._pump(mirror)

    def gone(self, node: NodeId) -> None:
        """A box left; what it lacks waits for its next hello."""
        self._boxes.pop(node, None)

    def tick(self, now: float) -> None:
        """Send again what was not acknowledged in time."""
        for mirror in self._boxes.values():
            if mirror.sender.tick(now):
                self._pump(mirror)

    async def _apply(self, mirror: _Mirror, effects: list[Effect]) -> bool:
        """False: the histories differ, the down epoch was forked; open the box anew."""
        for effect in effects:
            if isinstance(effect, Forked):
                _log.warning(
                    "a box's down streams differ from ours, forking",
                    node=mirror.node, stream=effect.stream, reason=effect.reason,
                )  # fmt: skip
                await self._fork(mirror.node)
                return False
        moves = [effect for effect in effects if isinstance(effect, Advanced)]
        if moves:
            await self._database.write(lambda db: self._outbox.advance(db, mirror.node, moves))
            mirror.forget(moves)
        return True

    async def _fork(self, node: NodeId) -> None:
        now_ms = time.time_ns() // 1_000_000
        await self._database.write(lambda db: self._outbox.fork(db, node, now_ms))
        self.gone(node)

    async def _load(self, mirror: _Mirror) -> list[Outgoing]:
        return mirror.absorb(await self._database.read(lambda db: mirror.missing(db, self._outbox)))

    def _pump(self, mirror: _Mirror) -> None:
        while cut := mirror.sender.cut():
            entries = mirror.take(cut)
            before = mirror.hashes[cut.stream][cut.first - 1]
            frame = Frame(mirror.epoch, cut.stream, cut.first, before, entries)
            self._send(mirror.node, cut.stream, self._codec.encode(frame))
            size = sum(map(len, entries))
            mirror.sender.sent(cut, len(entries), size, time.monotonic())


def _is_ahead(hello: Hello, epoch: Epoch, ours: set[str]) -> bool:
    """Whether a box has records of this epoch in a stream that a restored hub never began."""
    return any(
        mark.epoch == epoch and mark.committed.seq and mark.stream not in ours
        for mark in hello.down
    )
