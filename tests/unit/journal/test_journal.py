"""The journal under its hard cases: order, group commit, cancellation, a full disk, damage."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from lianzhen_edge.journal.errors import JournalFull, RecordTooLarge
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.journal.pen import LOST, Placed
from lianzhen_edge.journal.schema import place_of
from lianzhen_edge.journal.states import ItemState
from lianzhen_protocol import chain, kinds
from lianzhen_protocol.errors import ProtocolError, RecordError, SealBroken, TopicError
from lianzhen_protocol.frame import Frame
from lianzhen_protocol.identity import Epoch, NodeId, RecordId
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.marks import ForkReason
from lianzhen_protocol.receiver import Accepted, receive
from lianzhen_protocol.records import Body, Record, RecordAccepted, RecordRejected, RecordSeen
from lianzhen_protocol.sender import Advanced
from lianzhen_runtime.errors import LianzhenError, Unavailable
from lianzhen_runtime.keys import FileKeys
from support.lab_fixtures import Note, note, notes

NODE = NodeId("n0123456789ab")
STREAM = "record.diagnostic"
RECEIPTS = "record.receipts"
HUB_EPOCH, RESTORED_HUB = Epoch(b"1" * 16), Epoch(b"2" * 16)


async def opened(folder: Path, node: NodeId = NODE) -> Journal:
    keys = FileKeys(folder / "keys")
    return await Journal.open(folder / "journal.db", node, keys, lambda: 1_800_000_000_000)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = await opened(tmp_path)
    yield made
    await made.close()


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[sqlite3.Connection]:
    """A second connection to the file, as whoever damages it has."""
    connection = sqlite3.connect(folder / "journal.db")
    with contextlib.closing(connection), connection:
        yield connection


@contextlib.asynccontextmanager
async def held(journal: Journal) -> AsyncIterator[None]:
    """The writer is busy: what is asked within the block is one group after it."""
    begun, free = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        free.wait(60)

    async with asyncio.TaskGroup() as callers:
        callers.create_task(journal._writer.do(hold))
        await asyncio.to_thread(begun.wait)
        try:
            yield
        finally:
            free.set()


def entries(batch: list[Note]) -> list[bytes]:
    return [each.entry for each in batch]


def kept(journal: Journal, stream: str = STREAM) -> list[bytes]:
    return list(journal.read(stream, 1, 1000, 1 << 30).records)


def item_state(journal: Journal, identity: bytes) -> tuple[int, ItemState, str | None]:
    found = journal.item(identity, lambda _stream: 0)
    assert found is not None
    return found.seq, found.state, found.rejected


async def test_an_earlier_journal_is_counted_once_when_it_is_upgraded(tmp_path: Path) -> None:
    earlier = await opened(tmp_path)
    batch = notes(5)
    await earlier.put(STREAM, entries(batch))
    await earlier.put("alarm.clinic", entries(notes(2)))
    await earlier.advance([(earlier.epoch, Advanced(STREAM, 3, 2))])
    await take(earlier, HUB_EPOCH, seen(batch[0].id, "expert-7"))
    why = RecordRejected(record_id=batch[1].id, code="x", reason="y")
    await take(earlier, HUB_EPOCH, down(why))
    kept_then = earlier.stream_states()
    await earlier.close()
    with beside(tmp_path) as db:  # as release 3 of its tables left it
        db.executescript(
            "DROP TRIGGER item_seen; DROP TRIGGER item_rejected; DROP INDEX item_rejected;"
            "DROP TABLE tally; PRAGMA user_version=3;"
        )
        for column in ("waiting_bytes", "committed_ms", "seen_count", "rejected_count"):
            db.execute(f"ALTER TABLE stream DROP COLUMN {column}")
    later = await opened(tmp_path)
    try:
        expected = [msgspec.structs.replace(each, committed_ms=None) for each in kept_then]
        assert later.stream_states() == expected
        assert [(each.seen, each.rejected) for each in expected] == [(0, 0), (1, 1)]
        assert all(each.waiting_bytes for each in expected)
    finally:
        await later.close()


# -- order and groups


@pytest.mark.parametrize("moment", [1, 2])
async def test_a_hash_is_found_while_its_record_is_called_safe(
    journal: Journal, moment: int
) -> None:
    """The writer deletes at any moment of a look; to find nothing would be to fork."""
    await journal.put(STREAM, entries(notes(3)))
    expected = journal.hash_at(STREAM, 3)
    looks = 0

    def look_begins(_statement: str) -> None:
        nonlocal looks
        looks += 1
        if looks == moment:
            journal._pen.advance([(journal._pen._epoch, Advanced(STREAM, 3, 3))])

    journal._db.set_trace_callback(look_begins)
    found = journal.hash_at(STREAM, 3)
    journal._db.set_trace_callback(None)
    assert found is not None
    assert found == expected


async def test_a_batch_lies_in_its_order(journal: Journal) -> None:
    batch = notes(50)
    placed = await journal.put(STREAM, entries(batch))
    assert placed == [Placed(STREAM, seq, True) for seq in range(1, 51)]
    assert kept(journal) == entries(batch)


async def test_concurrent_puts_lie_in_the_order_of_their_calls(journal: Journal) -> None:
    batches = [notes(3) for _ in range(40)]
    placed = await asyncio.gather(*(journal.put(STREAM, entries(each)) for each in batches))
    assert [place.seq for batch in placed for place in batch] == list(range(1, 121))
    assert kept(journal) == [entry for batch in batches for entry in entries(batch)]


async def test_a_thousand_waiting_puts_share_a_few_commits(journal: Journal) -> None:
    commits: list[str] = []
    async with held(journal):
        puts = asyncio.gather(*(journal.put(STREAM, [each.entry]) for each in notes(1000)))
        await asyncio.sleep(0)  # all of them are queued now
        journal._connection.set_trace_callback(
            lambda said: commits.append(said) if said == "COMMIT" else None
        )
    await puts
    assert len(commits) <= 6  # the one that was held, and 256 at a time
    assert len(kept(journal)) == 1000


async def test_listeners_hear_of_what_is_committed(journal: Journal) -> None:
    heard: asyncio.Queue[set[str]] = asyncio.Queue()
    journal.on_append(heard.put_nowait)
    await journal.put(STREAM, entries(notes(1)))
    async with asyncio.timeout(60):
        assert await heard.get() == {STREAM}


async def test_a_caller_that_is_cancelled_takes_nothing_back(journal: Journal) -> None:
    left, later = note("left"), note("later")
    async with held(journal):
        gone = asyncio.gather(journal.put(STREAM, [left.entry]))
        stays = asyncio.gather(journal.put(STREAM, [later.entry]))
        await asyncio.sleep(0)  # both are queued now
        gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    (placed,) = await stays
    assert placed == [Placed(STREAM, 2, True)]
    assert kept(journal) == [left.entry, later.entry]
    assert await journal.put(STREAM, [left.entry]) == [Placed(STREAM, 1, False)]


# -- a full disk


async def test_a_full_disk_refuses_the_group_and_keeps_nothing_of_it(journal: Journal) -> None:
    first, small, large = note("before"), note("small"), note("x" * 200_000)
    await journal.put(STREAM, [first.entry])
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count={pages}")
    async with held(journal):
        puts = asyncio.gather(
            journal.put(STREAM, [small.entry]),
            journal.put("alarm", [large.entry]),
            journal.fork(ForkReason.HISTORIES_DIFFER, journal.epoch),
            return_exceptions=True,
        )
        await asyncio.sleep(0)  # one group
    for refused in await puts:
        assert isinstance(refused, JournalFull)
        assert (refused.code, refused.http_status) == ("journal-full", 507)
    assert [state.stream for state in journal.stream_states()] == [STREAM]
    assert kept(journal) == [first.entry]
    assert journal.item(small.id, lambda _: 0) is None

    journal._connection.execute("PRAGMA max_page_count=1000000")
    assert await journal.put(STREAM, [small.entry]) == [Placed(STREAM, 2, True)]
    assert await journal.put("alarm", [large.entry]) == [Placed("alarm", 1, True)]
    begin = chain.genesis(NODE, journal.epoch, STREAM)
    expected = list(chain.walk(begin, [first.entry, small.entry]))
    assert [journal.hash_at(STREAM, seq) for seq in (1, 2)] == expected


async def test_a_disk_that_does_not_even_read_refuses_and_the_writer_lives(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = notes(2)

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as sick:
        sick.setattr(journal._pen, "_db", None)
        sick.setattr(journal._pen, "append", broken)
        with pytest.raises(LianzhenError, match="cannot be written"):
            await journal.put(STREAM, [first.entry])
    async with asyncio.timeout(60):
        assert await journal.put(STREAM, [second.entry]) == [Placed(STREAM, 1, True)]


# -- what is refused


async def test_a_journal_of_a_later_release_is_refused(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    with beside(tmp_path) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(Unavailable, match="later release"):
        await opened(tmp_path)


async def test_a_journal_of_another_box_is_refused(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    with pytest.raises(Unavailable, match=f"belongs to {NODE}"):
        await opened(tmp_path, NodeId("nzzzzzzzzzzzz"))


async def test_what_is_no_journal_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Unavailable, match="does not open"):
        await opened(tmp_path)


@pytest.mark.parametrize(
    ("stream", "last", "error"),
    [
        (STREAM, b"no record", RecordError),
        (STREAM, note("x" * (1 << 20)).entry, RecordTooLarge),
        ("Record", note().entry, TopicError),
        ("record/diagnostic", note().entry, TopicError),
        ("gossip.ward-2", note().entry, TopicError),
    ],
    ids=["no-record", "too-large", "capital", "slash", "no-lane"],
)
async def test_a_batch_with_something_wrong_is_refused_whole(
    journal: Journal, stream: str, last: bytes, error: type[ProtocolError | LianzhenError]
) -> None:
    with pytest.raises(error):
        await journal.put(stream, [note().entry, last])
    assert journal.stream_states() == []


# -- damage


def flip(db: sqlite3.Connection) -> None:
    (sealed,) = db.execute("SELECT sealed FROM outbox WHERE place = ?", [place_of(1, 3)]).fetchone()
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    db.execute("UPDATE outbox SET sealed = ? WHERE place = ?", [damaged, place_of(1, 3)])


def swap(db: sqlite3.Connection) -> None:
    query = "SELECT sealed FROM outbox WHERE place IN (?, ?) ORDER BY place"
    places = [place_of(1, 3), place_of(1, 4)]
    (third,), (fourth,) = db.execute(query, places)
    for place, sealed in zip(places, (fourth, third), strict=True):
        db.execute("UPDATE outbox SET sealed = ? WHERE place = ?", [sealed, place])


@pytest.mark.parametrize(("harm", "lost"), [(flip, {3}), (swap, {3, 4})], ids=["flip", "swap"])
async def test_a_damaged_record_is_set_aside_and_the_others_go_on(
    tmp_path: Path, journal: Journal, harm: Callable[[sqlite3.Connection], None], lost: set[int]
) -> None:
    batch = notes(6)
    await journal.put(STREAM, entries(batch))
    await journal.advance([(journal.epoch, Advanced(STREAM, 1, 1))])
    with beside(tmp_path) as db:
        harm(db)
        found = "SELECT sealed FROM outbox WHERE place > ? ORDER BY place"
        before = [row[0] for row in db.execute(found, [place_of(1, 0)])]
    with pytest.raises(SealBroken):
        journal.read(STREAM, 2, 100, 1 << 20)

    await journal.fork(ForkReason.DAMAGED_RECORD, old := journal.epoch)
    assert journal.epoch != old
    whole = [each for seq, each in enumerate(batch, 1) if seq > 1 and seq not in lost]
    assert kept(journal) == entries(whole)
    with beside(tmp_path) as db:
        rows = db.execute("SELECT epoch, seq, sealed FROM damaged ORDER BY seq").fetchall()
    assert rows == [(old, seq, before[seq - 2]) for seq in sorted(lost)]

    assert item_state(journal, batch[0].id) == (0, ItemState.SAFE, None)
    for seq, each in enumerate(whole, 1):
        assert item_state(journal, each.id) == (seq, ItemState.STORED, None)
    everything = Advanced(STREAM, len(whole), len(whole))
    await journal.advance([(journal.epoch, everything)])
    for seq in lost:
        place, state, rejected = item_state(journal, batch[seq - 1].id)
        assert (place, state) == (LOST, ItemState.STORED)
        assert rejected is not None
        assert rejected.startswith("damaged")


async def test_a_lost_record_that_is_put_again_is_kept_anew(
    tmp_path: Path, journal: Journal
) -> None:
    batch = notes(4)
    await journal.put(STREAM, entries(batch))
    with beside(tmp_path) as db:
        flip(db)
    await journal.fork(ForkReason.DAMAGED_RECORD, journal.epoch)
    assert [each.rejected for each in journal.stream_states()] == [1]
    assert await journal.put(STREAM, [batch[2].entry]) == [Placed(STREAM, 4, True)]
    assert [each.rejected for each in journal.stream_states()] == [0]
    assert kept(journal) == entries([batch[0], batch[1], batch[3], batch[2]])
    assert item_state(journal, batch[2].id) == (4, ItemState.STORED, None)


async def test_no_word_of_a_record_lies_on_the_disk_in_plain(
    tmp_path: Path, journal: Journal
) -> None:
    secret = "患者张三 血压 120/80"
    await journal.put(STREAM, entries(notes(20, secret)))
    await journal.fork(ForkReason.HISTORIES_DIFFER, journal.epoch)
    await take(journal, HUB_EPOCH, future(secret))
    on_disk = b"".join(map(Path.read_bytes, [tmp_path / "journal.db", tmp_path / "journal.db-wal"]))
    assert len(on_disk) > 10_000
    assert bytes(journal.epoch) in on_disk
    for word in (secret.encode(), b"diagnostic.note"):
        assert word not in on_disk


# -- what comes down


def down(body: Body) -> bytes:
    return kinds.encode(body, note().id, 1_800_000_000_000)


def future(text: str) -> bytes:
    body = msgspec.msgpack.encode({"text": text})
    return msgspec.msgpack.encode(Record(note().id, "future.kind", 1, 0, 0, body))


def seen(identity: RecordId, person: str) -> bytes:
    return down(RecordSeen(record_id=identity, seen_by=person, seen_ms=7))


async def take(journal: Journal, epoch: Epoch, *batch: bytes) -> None:
    """What the uplink does with a frame of the down stream."""
    mark = journal.down_mark(epoch, RECEIPTS)
    verdict = receive(mark, Frame(epoch, RECEIPTS, mark.seq + 1, mark.hash, batch))
    assert isinstance(verdict, Accepted)
    await journal.receive(epoch, RECEIPTS, verdict)


async def test_an_item_learns_who_saw_it_and_the_first_one_counts(journal: Journal) -> None:
    mine = note()
    await journal.put(STREAM, [mine.entry])
    await take(journal, HUB_EPOCH, seen(mine.id, "expert-7"))
    await take(journal, RESTORED_HUB, seen(mine.id, "somebody-later"))
    await journal.advance([(journal.epoch, Advanced(STREAM, 1, 1))])
    found = journal.item(mine.id, lambda _: 0)
    assert found is not None
    assert (found.state, found.seen_by, found.seen_ms) == (ItemState.SEEN, "expert-7", 7)
    assert [(each.stream, each.seen) for each in journal.stream_states()] == [(STREAM, 1)]
    assert journal.rejections(10) == []


async def test_an_item_learns_why_the_hub_could_not_apply_it(journal: Journal) -> None:
    mine = note()
    await journal.put(STREAM, [mine.entry])
    why = RecordRejected(record_id=mine.id, code="consultation-closed", reason="已结束")
    await take(journal, HUB_EPOCH, down(why))
    assert item_state(journal, mine.id) == (1, ItemState.STORED, "consultation-closed: 已结束")
    await take(journal, RESTORED_HUB, down(why))  # told twice, and still one
    assert [each.rejected for each in journal.stream_states()] == [1]
    (shown,) = journal.rejections(10)
    assert (shown.id, shown.stream) == (mine.id.hex(), STREAM)
    assert (shown.code, shown.reason) == ("consultation-closed", "已结束")


async def test_what_this_release_cannot_read_is_held_and_its_neighbours_applied(
    tmp_path: Path, journal: Journal
) -> None:
    mine = note()
    await journal.put(STREAM, [mine.entry])
    await take(journal, HUB_EPOCH, future("x"), b"junk", seen(mine.id, "expert-7"))
    await journal.advance([(journal.epoch, Advanced(STREAM, 1, 1))])
    assert journal.held() == 2
    assert item_state(journal, mine.id)[1] is ItemState.SEEN
    with beside(tmp_path) as db:
        codes = db.execute("SELECT seq, code FROM inbox ORDER BY place").fetchall()
    assert codes == [(1, "record-kind-unknown"), (2, "record-malformed")]


async def test_an_item_that_was_rejected_is_accepted_after_all(journal: Journal) -> None:
    mine = note()
    await journal.put(STREAM, [mine.entry])
    why = RecordRejected(record_id=mine.id, code="record-malformed", reason="no text")
    await take(journal, HUB_EPOCH, down(why))
    await take(journal, RESTORED_HUB, down(RecordAccepted(record_id=mine.id)))
    assert item_state(journal, mine.id) == (1, ItemState.STORED, None)
    assert journal.rejections(10) == []


async def test_a_later_release_applies_what_an_earlier_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, unknown = note(), future("x")
    earlier = await opened(tmp_path)
    await earlier.put(STREAM, [mine.entry])
    with monkeypatch.context() as release:
        release.setattr(kinds, "_bodies", {})
        await take(earlier, HUB_EPOCH, unknown, seen(mine.id, "expert-7"))
    assert earlier.held() == 2
    await earlier.close()
    later = await opened(tmp_path)
    assert later.held() == 1
    await later.advance([(later.epoch, Advanced(STREAM, 1, 1))])
    assert item_state(later, mine.id)[1] is ItemState.SEEN
    await later.close()


async def test_a_hello_says_how_far_each_down_stream_is_in(journal: Journal) -> None:
    batch = [future(str(number)) for number in range(3)]
    await take(journal, HUB_EPOCH, *batch)
    hashes = list(chain.walk(chain.genesis(NODE, HUB_EPOCH, RECEIPTS), batch))
    (mark,) = journal.opening(Group.URGENT).down
    assert (mark.epoch, mark.stream) == (HUB_EPOCH, RECEIPTS)
    assert (mark.committed.seq, mark.committed.hash) == (3, hashes[-1])
    assert journal.opening(Group.BULK).down == []
    await journal.fork(ForkReason.HISTORIES_DIFFER, journal.epoch)
    assert journal.down_mark(HUB_EPOCH, RECEIPTS) == mark.committed
