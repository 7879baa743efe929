"""A box calls a record committed or safe on the hub's signed word for its mark, on nothing else.

A link over a line of our own: what it publishes is taken, as a broker takes it, and what it hears
is whatever somebody says.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.journal.states import ItemState
from lianzhen_edge.uplink.link import Credentials, Link
from lianzhen_hub.fleet.authority import Authority
from lianzhen_protocol import hello as messages
from lianzhen_protocol import kinds, signing
from lianzhen_protocol.frame import Frame
from lianzhen_protocol.hello import Ack, Hello, Welcome
from lianzhen_protocol.identity import Epoch, NodeId, RecordId
from lianzhen_protocol.lanes import lane_of
from lianzhen_protocol.marks import Position, StreamMark
from lianzhen_protocol.receiver import Accepted, receive
from lianzhen_protocol.records import RecordSeen
from lianzhen_protocol.sender import Advanced
from lianzhen_protocol.topics import Channel, Direction, Topic
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.mqtt import Address
from lianzhen_runtime.signer import SignerTrust
from support.fleet import until
from support.lab_fixtures import Note, note, notes

NODE, OTHER = NodeId("n0123456789ab"), NodeId("nzzzzzzzzzzzz")
STREAM = "record.diagnostic"
COUNT = 5


class Clock:
    def now(self) -> float:
        return time.time()

    def learn(self, now_ms: int) -> None:
        pass


class Line:
    """A broker that acknowledges whatever it is given, and passes nothing on."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.said: list[tuple[str, bytes]] = []
        self.published = asyncio.Event()

    def publish(self, topic: str, payload: bytes) -> None:
        self.said.append((topic, payload))
        self.published.set()

    async def drained(self) -> None:
        await asyncio.sleep(0)


class Box:
    """A journal with COUNT records that were handed to the line, and its link to be spoken to."""

    def __init__(self, folder: Path, journal: Journal, batch: list[Note]) -> None:
        self.authority = Authority(folder / "ca")
        self.signer = self.authority.signer()
        self.journal, self.batch, self.line = journal, batch, Line()
        self.moves: list[tuple[Epoch, Advanced]] = []
        trust = SignerTrust(self.authority.ca_pem)
        who = Credentials(NODE, "ab", Address("127.0.0.1", 1), trust, _never)
        self.link = Link(lane_of(STREAM).group, journal, who, Clock(), bytes(16), self._moved)

    def _moved(self, epoch: Epoch, moves: Iterable[Advanced]) -> None:
        self.moves += [(epoch, move) for move in moves]

    async def hears(self, wire: bytes, channel: Channel = Channel.ACK) -> None:
        """A message comes down, and all that follows of it has happened when this returns."""
        self.link._received(str(Topic(NODE, Direction.DOWN, channel)), wire)
        await until(lambda: not self.link._inbox)
        await asyncio.sleep(0)
        moves, self.moves = self.moves, []
        await self.journal.advance(moves)

    def states(self) -> list[ItemState]:
        """Of every record, as the clinic is shown them."""
        found = [self.journal.item(each.id, self.link.sent) for each in self.batch]
        return [item.state for item in found if item is not None]

    def position(self, seq: int) -> Position:
        hash_ = self.journal.hash_at(STREAM, seq)
        assert hash_ is not None
        return Position(seq, hash_)

    def ack(self, seq: int = COUNT, safe: int | None = None, **other: Any) -> Ack:
        """The hub's word for the first ``seq``."""
        mark = StreamMark(STREAM, self.position(seq), seq if safe is None else safe)
        said = {"session": self.link._session, "epoch": self.journal.epoch, "marks": (mark,)}
        return Ack(now_ms=1, credit=1 << 20, **(said | other))

    def signed(self, message: Ack | Welcome, node: NodeId = NODE) -> bytes:
        return signing.sign(self.signer.key, node, message, self.signer.der)


def _never() -> ssl.SSLContext:
    raise AssertionError("nobody dials")


@asynccontextmanager
async def conversing(box: Box, frames: int = 1) -> AsyncIterator[None]:
    """Welcomed, and everything handed to the line."""

    async def session() -> None:
        while True:
            await box.link._greet(box.line)  # type: ignore[arg-type]
            await box.link._converse(box.line)  # type: ignore[arg-type]

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(session())
        await _welcomed(box, frames)
        yield
        task.cancel()


async def _welcomed(box: Box, frames: int) -> None:
    await box.line.published.wait()
    hello = messages.decode(box.line.said[0][1])
    assert isinstance(hello, Hello)
    genesis = StreamMark(STREAM, box.position(0), 0)
    welcome = Welcome(
        session=hello.session, protocol=1, now_ms=1, credit=1 << 20, marks=(genesis,), frames=frames
    )
    await box.hears(box.signed(welcome), Channel.HELLO)
    await until(lambda: box.link.sent(STREAM) == COUNT)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    keys = FileKeys(tmp_path / "keys")
    journal = await Journal.open(tmp_path / "journal.db", NODE, keys, lambda: 0)
    batch = notes(COUNT)
    await journal.put(STREAM, [each.entry for each in batch])
    made = Box(tmp_path, journal, batch)
    assert made.states() == [ItemState.STORED] * COUNT
    async with conversing(made):
        yield made
    await journal.close()


def nothing_is_believed(box: Box) -> None:
    assert box.states() == [ItemState.SENT] * COUNT
    (stream,) = box.journal.stream_states()
    assert (stream.committed, stream.safe, stream.committed_ms) == (0, 0, None)
    assert stream.waiting_bytes == sum(len(each.entry) + 29 for each in box.batch)
    assert len(box.journal.read(STREAM, 1, 100, 1 << 20).records) == COUNT


async def test_what_the_broker_acknowledged_is_sent_and_no_more(box: Box) -> None:
    assert any("/stream/" in topic for topic, _ in box.line.said)
    nothing_is_believed(box)


def _by_another_key(box: Box) -> bytes:
    stranger = Authority(box.authority._folder.parent / "other-ca").signer()
    return signing.sign(stranger.key, NODE, box.ack(), stranger.der)


def _with_a_flipped_bit(box: Box) -> bytes:
    wire = bytearray(box.signed(box.ack()))
    wire[len(wire) // 2] ^= 1
    return bytes(wire)


LIES: dict[str, Callable[[Box], bytes]] = {
    "unsigned": lambda box: messages.encode(box.ack()),
    "signed by a stranger": _by_another_key,
    "signed for another node": lambda box: box.signed(box.ack(), OTHER),
    "changed on its way": _with_a_flipped_bit,
    "of an older epoch": lambda box: box.signed(box.ack(epoch=Epoch(b"o" * 16))),
    "of an older session": lambda box: box.signed(box.ack(session=b"s" * 16)),
    "of another stream": lambda box: box.signed(
        box.ack(marks=(StreamMark("record.other", box.position(COUNT), COUNT),))
    ),
    "junk": lambda _: b"\xff" * 40,
}


@pytest.mark.parametrize("lie", LIES)
async def test_no_other_word_makes_a_record_committed_or_safe(box: Box, lie: str) -> None:
    await box.hears(LIES[lie](box))
    nothing_is_believed(box)


async def test_an_acknowledgement_with_another_history_makes_nothing_committed(box: Box) -> None:
    left = box.journal.epoch
    foreign = StreamMark(STREAM, Position(COUNT, b"f" * 32), COUNT)
    await box.hears(box.signed(box.ack(marks=(foreign,))))
    await until(lambda: box.journal.epoch != left)  # it forks, and keeps all of it
    assert set(box.states()) <= {ItemState.STORED, ItemState.SENT}
    assert len(box.journal.read(STREAM, 1, 100, 1 << 20).records) == COUNT


async def test_the_hubs_word_counts_as_far_as_it_goes(box: Box) -> None:
    await box.hears(box.signed(box.ack(seq=3, safe=1)))
    expected = [ItemState.SAFE, ItemState.COMMITTED, ItemState.COMMITTED]
    assert box.states() == [*expected, ItemState.SENT, ItemState.SENT]
    await box.hears(box.signed(box.ack(seq=COUNT)))
    assert box.states() == [ItemState.SAFE] * COUNT


async def test_an_old_mark_that_comes_late_takes_nothing_back(box: Box) -> None:
    late = box.signed(box.ack(seq=2, safe=0))
    await box.hears(box.signed(box.ack(seq=4, safe=3)))
    await box.hears(late)
    assert box.states() == [ItemState.SAFE] * 3 + [ItemState.COMMITTED, ItemState.SENT]


async def test_what_somebody_saw_is_not_safe_by_that(box: Box) -> None:
    """Its mark may be on its way, or the hub was restored and has lost the record since."""
    seen = RecordSeen(record_id=box.batch[0].id, seen_by="王专家", seen_ms=7)
    entry = kinds.encode(seen, note().id, 0)
    epoch = Epoch(b"d" * 16)
    mark = box.journal.down_mark(epoch, "record.receipts")
    verdict = receive(mark, Frame(epoch, "record.receipts", 1, mark.hash, (entry,)))
    assert isinstance(verdict, Accepted)
    await box.journal.receive(epoch, "record.receipts", verdict)
    item = box.journal.item(RecordId(box.batch[0].id), box.link.sent)
    assert item is not None
    assert (item.state, item.seen_by) == (ItemState.SENT, "王专家")
    await box.hears(box.signed(box.ack(seq=1)))
    assert box.states()[:2] == [ItemState.SEEN, ItemState.SENT]
