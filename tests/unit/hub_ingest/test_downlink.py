"""Down to the boxes: the outbox's numbering, and one session of sending it."""

import asyncio
import threading
import time

import msgspec
import pytest
from sqlalchemy import Connection, delete, select, update

from lianzhen_hub.ingest import downlink
from lianzhen_hub.ingest.downlink import Downlink, Outbox
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol import chain, kinds, records
from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.marks import Position
from lianzhen_protocol.records import DiagnosticNote
from lianzhen_protocol.sender import RTO_MAX, Advanced
from unit.hub_ingest.box import NODE, NOW_MS, DownBox

RECEIPTS, ALARM = "record.receipts", "alarm"


class Hub:
    """An outbox and the downlink that sends it to one box."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self.database, self.outbox, self.box = database, outbox, DownBox()
        self.downlink = Downlink(database, outbox, self.box.send)

    async def append(self, *texts: str, stream: str = RECEIPTS) -> None:
        def work(db: Connection) -> None:
            for text in texts:
                self.outbox.append(db, NODE, stream, DiagnosticNote(text=text), NOW_MS)

        await self.database.write(work)

    async def opened(self) -> None:
        await self.downlink.open([(NODE, self.box.hello())])

    async def acknowledged(self) -> None:
        await self.downlink.acknowledged(NODE, self.box.ack())

    async def streams(self) -> dict[str, tuple[int, int, int]]:
        """(last, committed, purged) of each."""
        heads = await self.database.read(lambda db: self.outbox.heads(db, NODE))
        return {head.stream: (head.last, head.committed, head.purged) for head in heads}

    async def epoch(self) -> Epoch:
        heads = await self.database.read(lambda db: self.outbox.heads(db, NODE))
        (found,) = {Epoch(head.epoch) for head in heads}
        return found

    async def kept(self, stream: str = RECEIPTS) -> list[tuple[int, bytes, bytes]]:
        def rows(db: Connection) -> list[tuple[int, bytes, bytes]]:
            (head,) = (head for head in self.outbox.heads(db, NODE) if head.stream == stream)
            return self.outbox.rows(db, NODE, head, 0)

        return await self.database.read(rows)

    async def advance(self, committed: int, stream: str = RECEIPTS) -> None:
        moves = [Advanced(stream, committed, committed)]
        await self.database.write(lambda db: self.outbox.advance(db, NODE, moves))

    async def received(self, stream: str = RECEIPTS) -> list[str]:
        """Texts that the box has of the present epoch."""
        return texts(self.box.entries.get((await self.epoch(), stream), []))


@pytest.fixture
def hub(database: Database, outbox: Outbox) -> Hub:
    return Hub(database, outbox)


def texts(entries: list[bytes]) -> list[str]:
    bodies = [kinds.open_body(records.decode(entry)) for entry in entries]
    return [body.text for body in bodies if isinstance(body, DiagnosticNote)]


# -- the outbox


async def test_records_are_numbered_and_chained_as_on_a_box(hub: Hub) -> None:
    await hub.append("a", "b", "c")
    rows = await hub.kept()
    assert [seq for seq, _, _ in rows] == [1, 2, 3]
    assert texts([entry for _, _, entry in rows]) == ["a", "b", "c"]
    begin = chain.genesis(NODE, await hub.epoch(), RECEIPTS)
    assert [hash_ for _, hash_, _ in rows] == list(chain.walk(begin, [row[2] for row in rows]))


async def test_all_streams_of_a_box_share_its_epoch(hub: Hub) -> None:
    await hub.append("a")
    await hub.append("b", stream=ALARM)
    await hub.epoch()
    assert await hub.streams() == {RECEIPTS: (1, 0, 0), ALARM: (1, 0, 0)}


async def test_a_fork_renumbers_what_is_kept_into_a_new_epoch(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink, "KEEP", 2)
    await hub.append("a", "b", "c", "d", "e")
    await hub.append("z", stream=ALARM)
    await hub.advance(4)
    before, old = await hub.kept(), await hub.epoch()
    await hub.database.write(lambda db: hub.outbox.fork(db, NODE, 0))
    assert await hub.epoch() != old
    assert await hub.streams() == {RECEIPTS: (3, 0, 0), ALARM: (1, 0, 0)}
    after = await hub.kept()
    assert [seq for seq, _, _ in after] == [1, 2, 3]
    assert [entry for _, _, entry in after] == [entry for _, _, entry in before]  # the same ids
    await hub.append("f")
    assert texts([entry for _, _, entry in await hub.kept()]) == ["c", "d", "e", "f"]


async def test_what_the_box_has_is_kept_for_a_while_and_then_purged(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink, "KEEP", 3)
    await hub.append(*"abcdefgh")
    hashes = [hash_ for _, hash_, _ in await hub.kept()]
    await hub.advance(2)
    assert await hub.streams() == {RECEIPTS: (8, 2, 0)}
    await hub.advance(7)
    assert await hub.streams() == {RECEIPTS: (8, 7, 4)}
    assert texts([entry for _, _, entry in await hub.kept()]) == ["e", "f", "g", "h"]
    (head,) = await hub.database.read(lambda db: hub.outbox.heads(db, NODE))
    assert head.purged_hash == hashes[3]
    await hub.advance(7)
    assert await hub.streams() == {RECEIPTS: (8, 7, 4)}


async def test_a_record_and_its_reason_are_one_commit(hub: Hub) -> None:
    def failing(db: Connection) -> None:
        hub.outbox.append(db, NODE, RECEIPTS, DiagnosticNote(text="never"), NOW_MS)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await hub.database.write(failing)
    assert await hub.streams() == {}
    await hub.append("a")
    assert texts([entry for _, _, entry in await hub.kept()]) == ["a"]


async def test_whoever_reads_sees_one_moment(database: Database, hub: Hub) -> None:
    """A fork between two queries would leave rows that do not open under the head's epoch."""
    await hub.append("a")
    begun, forked = threading.Event(), threading.Event()

    def reading(db: Connection) -> list[str]:
        (head,) = hub.outbox.heads(db, NODE)
        begun.set()
        assert forked.wait(60)
        return texts([entry for _, _, entry in hub.outbox.rows(db, NODE, head, 0)])

    async with asyncio.TaskGroup() as both:
        read = both.create_task(database.read(reading))
        await asyncio.to_thread(begun.wait, 10)
        await database.write(lambda db: hub.outbox.fork(db, NODE, 0))
        forked.set()
    assert read.result() == ["a"]


# -- a session


async def test_a_box_that_says_hello_gets_all_that_waits(hub: Hub) -> None:
    await hub.append("a", "b", "c")
    await hub.append("z", stream=ALARM)
    await hub.opened()
    assert await hub.received() == ["a", "b", "c"]
    assert await hub.received(ALARM) == ["z"]
    assert [frame.stream for frame in hub.box.frames] == [ALARM, RECEIPTS]  # by their lanes


async def test_what_is_acknowledged_is_not_sent_again(hub: Hub) -> None:
    await hub.append("a", "b")
    await hub.opened()
    await hub.acknowledged()
    assert await hub.streams() == {RECEIPTS: (2, 2, 0)}
    count = len(hub.box.frames)
    hub.downlink.tick(time.monotonic() + RTO_MAX)
    await hub.opened()
    assert len(hub.box.frames) == count


async def test_what_got_lost_is_sent_again_in_time(hub: Hub) -> None:
    await hub.append("a", "b")
    hub.box.deaf = True
    await hub.opened()
    hub.box.deaf = False
    hub.downlink.tick(time.monotonic())
    assert await hub.received() == []
    hub.downlink.tick(time.monotonic() + RTO_MAX)
    assert await hub.received() == ["a", "b"]


async def test_a_new_session_goes_on_behind_what_the_box_has(hub: Hub) -> None:
    await hub.append("a", "b")
    await hub.opened()  # the acknowledgement got lost
    await hub.append("c")
    await hub.opened()
    assert hub.box.frames[-1].first == 3
    assert await hub.received() == ["a", "b", "c"]
    assert await hub.streams() == {RECEIPTS: (3, 2, 0)}


async def test_what_is_appended_goes_at_once_to_a_box_that_is_there(hub: Hub) -> None:
    await hub.append("a")
    await hub.downlink.nudge([NODE])
    assert hub.box.frames == []
    await hub.opened()
    await hub.append("b")
    await hub.append("z", stream=ALARM)
    await hub.downlink.nudge([NODE])
    assert await hub.received() == ["a", "b"]
    assert await hub.received(ALARM) == ["z"]
    hub.downlink.gone(NODE)
    await hub.append("c")
    await hub.downlink.nudge([NODE])
    assert await hub.received() == ["a", "b"]


async def test_more_than_a_window_flows_with_its_acknowledgements(hub: Hub) -> None:
    wanted = [f"{number} " + "x" * 4000 for number in range(150)]
    await hub.append(*wanted)
    await hub.opened()
    assert len(await hub.received()) < len(wanted)
    for _ in wanted:
        if len(await hub.received()) < len(wanted):
            await hub.acknowledged()
    assert await hub.received() == wanted


async def test_an_acknowledgement_of_another_session_counts_for_nothing(hub: Hub) -> None:
    await hub.append("a")
    await hub.opened()
    old = hub.box.ack()
    hub.box.marks.clear()
    await hub.opened()
    await hub.downlink.acknowledged(NODE, old)
    assert await hub.streams() == {RECEIPTS: (1, 0, 0)}


async def test_a_restored_hub_finds_the_box_ahead_and_sends_all_anew(hub: Hub) -> None:
    await hub.append("a", "b")
    await hub.opened()
    lost = await hub.epoch()

    def restore(db: Connection) -> None:
        db.execute(tables.down.delete().where(tables.down.c.seq == 2))
        (hash_,) = db.execute(select(tables.down.c.chain)).scalars()
        db.execute(tables.down_stream.update().values(last=1, last_hash=hash_, committed=0))

    await hub.database.write(restore)
    await hub.opened()
    assert await hub.epoch() != lost
    assert await hub.received() == ["a"]
    assert texts(hub.box.entries[lost, RECEIPTS]) == ["a", "b"]
    await hub.acknowledged()
    assert await hub.streams() == {RECEIPTS: (1, 1, 0)}


async def test_a_restored_hub_finds_the_box_ahead_in_a_stream_that_it_never_began(
    hub: Hub,
) -> None:
    await hub.append("receipt")
    await hub.append("wake", "up", stream=ALARM)
    await hub.opened()
    old = await hub.epoch()
    mine = (tables.down_stream.c.stream == ALARM, tables.down.c.stream == ALARM)
    await hub.database.write(lambda db: db.execute(delete(tables.down_stream).where(mine[0])))
    await hub.database.write(lambda db: db.execute(delete(tables.down).where(mine[1])))
    await hub.opened()
    assert await hub.epoch() != old
    await hub.append("again", stream=ALARM)
    await hub.downlink.nudge([NODE])
    assert await hub.received(ALARM) == ["again"]


async def test_a_hub_that_learns_it_from_an_acknowledgement_wants_a_hello(hub: Hub) -> None:
    await hub.append("one")
    await hub.opened()
    position = Position(1, bytes(32))
    forged = hub.box.ack()
    mark = msgspec.structs.replace(forged.marks[0], committed=position)
    assert not await hub.downlink.acknowledged(NODE, msgspec.structs.replace(forged, marks=(mark,)))
    assert await hub.downlink.acknowledged(NODE, forged)  # of a session that is over
    await hub.opened()
    assert await hub.received() == ["one"]


async def test_a_restored_hub_that_wrote_on_finds_that_histories_differ(hub: Hub) -> None:
    await hub.append("a", "b")
    await hub.opened()
    hub.box.marks[await hub.epoch(), RECEIPTS] = Position(2, bytes(32))
    before = await hub.epoch()
    await hub.opened()
    assert await hub.epoch() != before
    assert await hub.received() == ["a", "b"]


async def test_a_restored_card_gets_what_is_kept_under_a_new_epoch(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink, "KEEP", 2)
    await hub.append(*"abcde")
    await hub.opened()
    await hub.acknowledged()
    assert await hub.streams() == {RECEIPTS: (5, 5, 3)}
    hub.box.marks.clear()
    await hub.opened()
    assert await hub.received() == ["d", "e"]


async def test_a_damaged_record_to_go_down_is_told_and_the_others_go_on(hub: Hub) -> None:
    """Its bytes rot in the table; the box gets its neighbours under a new epoch."""
    await hub.append("a", "b", "c")
    rotten = update(tables.down).where(tables.down.c.seq == 2).values(sealed=b"\1" + bytes(60))
    await hub.database.write(lambda db: db.execute(rotten))
    await hub.opened()
    assert [kinds.open_body(records.decode(entry)) for _, _, entry in await hub.kept()] == [
        DiagnosticNote(text="a"),
        DiagnosticNote(text="c"),
    ]
    codes = await hub.database.read(
        lambda db: db.execute(select(tables.notice.c.code)).scalars().all()
    )
    assert codes == ["seal-broken"]
