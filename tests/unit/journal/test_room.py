"""A journal whose share is used up: what it still takes, what it refuses, and how it gets well."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from lianzhen_edge import storage
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.errors import JournalFull
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.journal.room import Share
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol import alarms, imaging
from lianzhen_protocol.accounts import Stamp
from lianzhen_protocol.alarms import Alarm, AlarmAcknowledged, AlarmState, Condition, Severity
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import StudySeen
from lianzhen_protocol.people import By
from lianzhen_protocol.sender import Advanced
from lianzhen_protocol.sheets import Index, Sheet
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.web.sessions import Session
from support.lab_fixtures import notes

NODE = NodeId("n0123456789ab")
STREAM = "study.full"
QUOTA = 1 << 20
SEEN = StudySeen(study="ab" * 16, seen_by="x", seen_ms=1)
NURSE = By(account="ab" * 16, name="王护士")


class Mark(Sheet, frozen=True):
    """Something that is there."""

    SHEET: ClassVar[str] = "mark"

    id: str
    state: str

    def index(self) -> Index:
        return Index(self.id, state=self.state)


async def opened(folder: Path, share: Share) -> Journal:
    keys, path = FileKeys(folder / "keys"), folder / "journal.db"
    return await Journal.open(path, NODE, keys, lambda: 1_800_000_000_000, None, share, MEANINGS)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = await opened(tmp_path, Share(QUOTA, QUOTA))
    await made.transact(lambda book: book.put(Mark("known", "before")))
    yield made
    await made.close()


async def fill(journal: Journal) -> int:
    """How many records it took before it refused."""
    for count in range(1000):
        (found,) = notes(1, os.urandom(8000).hex())
        try:
            await journal.put(STREAM, [found.entry])
        except JournalFull as error:
            assert "share" in str(error)  # noqa: PT017 - what comes before is no fault
            return count
    raise AssertionError("it never filled")


async def refused(journal: Journal, sheet: Sheet) -> None:
    with pytest.raises(JournalFull):
        await journal.transact(lambda book: book.put(sheet))


async def test_a_used_up_share_is_said_can_be_read_and_gets_well(journal: Journal) -> None:
    count = await fill(journal)
    assert count > 10

    await journal.transact(lambda book: book.audit(NURSE.account, "read", "patient/1"))
    assert journal.sheets.audit_end(NODE).seq == 1
    await journal.transact(lambda book: book.put(Mark("known", "after")))
    (known,) = journal.sheets.find(Mark)
    assert known.state == "after"
    await refused(journal, Mark("new", "before"))
    with pytest.raises(JournalFull):
        await journal.transact(lambda book: book.write(imaging.STREAM, SEEN))
    stamp = Stamp(1, "n")
    session = Session(
        id="s", account=NURSE.account, stage="open", began_ms=1, seen_ms=1, secret_stamp=stamp
    )
    await journal.transact(lambda book: book.put(session))

    await journal.advance([(journal.epoch, Advanced(STREAM, count, count))])
    await journal.transact(lambda book: book.put(Mark("new", "before")))
    assert await fill(journal) > 10


async def test_its_alarm_is_raised_into_the_reserve_and_ends_after_somebody_heard_it(
    journal: Journal,
) -> None:
    await fill(journal)
    for causes in ((storage.JOURNAL,), (storage.JOURNAL,), (storage.JOURNAL, storage.IMAGES)):
        await journal.transact(lambda book, found=causes: storage.judge(book, found))  # type: ignore[misc]
    first, second = sorted(journal.sheets.find(Alarm), key=lambda each: len(each.causes))
    assert first.state is AlarmState.ENDED, "the same rings once, another cause again"
    assert (second.condition, second.severity) == (Condition.STORAGE, Severity.TECHNICAL)
    assert second.state is AlarmState.RINGING

    await journal.transact(lambda book: storage.judge(book, ()))
    assert alarms.active_alarm(journal.sheets, Condition.STORAGE, "") == second, "latched"

    def heard(book: Book) -> None:
        book.write(
            alarms.STREAM, AlarmAcknowledged(alarm_id=second.id, by=NURSE, at_ms=book.now_ms)
        )

    await journal.transact(heard)
    await journal.transact(lambda book: storage.judge(book, ()))  # it is over since now
    found = journal.sheets.get(Alarm, second.id)
    assert found is not None
    assert (found.state, found.eased_ms > 0) == (AlarmState.ACKNOWLEDGED, True)


async def test_the_last_of_the_reserve_is_for_deletes_alone(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    made = await opened(tmp_path, Share())
    await made.put(STREAM, [each.entry for each in notes(5)])
    for reserve, looks in ((free + (64 << 20), True), (8 * free, False)):
        made.share = Share(reserve_bytes=reserve)
        with pytest.raises(JournalFull, match="disk is full"):
            await made.put(STREAM, [each.entry for each in notes(1)])
        if looks:
            await made.transact(lambda book: book.audit(NURSE.account, "read", "patient/1"))
        else:
            with pytest.raises(JournalFull):
                await made.transact(lambda book: book.audit(NURSE.account, "read", "patient/1"))
        await made.advance([(made.epoch, Advanced(STREAM, 2, 2))])
    await made.close()
