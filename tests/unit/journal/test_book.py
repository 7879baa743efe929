"""A record and what it means are one commit; work that fails undoes itself and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import ClassVar

import pytest

from lianzhen_edge.journal.book import Book, Meanings, Origin, Page
from lianzhen_edge.journal.errors import RecordTooLarge
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import kinds, records
from lianzhen_protocol.errors import RecordError, SealBroken
from lianzhen_protocol.frame import Frame
from lianzhen_protocol.identity import Epoch, NodeId, RecordId
from lianzhen_protocol.marks import ForkReason
from lianzhen_protocol.receiver import Accepted, receive
from lianzhen_protocol.records import Body, DiagnosticNote, Record
from lianzhen_protocol.sheets import Index, Sheet, means
from lianzhen_runtime.keys import FileKeys
from support.lab_fixtures import note
from unit.journal.test_journal import beside

NODE = NodeId("n0123456789ab")
STREAM = "record.diagnostic"
SECRET = "张三 110101199003077758"
NOW_MS = 1_800_000_000_000


class Heard(Sheet, frozen=True):
    """The notes of one text."""

    SHEET: ClassVar[str] = "heard"

    text: str
    times: int
    origin: str

    def index(self) -> Index:
        return Index(str(len(self.text)), owner="me", state="new", at_ms=self.times)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        return (("text", self.text),)


def heard(page: Page, _record: Record, body: DiagnosticNote) -> None:
    if body.text == "forbidden":
        raise RecordError("not here", code="record-misplaced")
    if body.text == "surprise":
        page.put(Heard(text="a" * 99, times=1, origin=page.origin))
        raise ZeroDivisionError
    before = page.get(Heard, str(len(body.text)))
    times = before.times + 1 if before else 1
    page.put(Heard(text=body.text, times=times, origin=page.origin))


MEANINGS: Meanings = dict([means(DiagnosticNote, heard)])


async def opened(folder: Path) -> Journal:
    keys = FileKeys(folder / "keys")
    return await Journal.open(folder / "journal.db", NODE, keys, lambda: NOW_MS, meanings=MEANINGS)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = await opened(tmp_path)
    yield made
    await made.close()


async def say(journal: Journal, text: str, identity: str | None = None) -> str:
    return await journal.transact(
        lambda book: book.write(STREAM, DiagnosticNote(text=text), identity)
    )


async def test_what_is_written_is_applied_and_goes_to_the_hub(journal: Journal) -> None:
    identity = await say(journal, "hello")
    (sheet,) = journal.sheets.find(Heard, owner="me", state="new")
    assert (sheet.text, sheet.times, sheet.origin) == ("hello", 1, Origin.HERE)
    (entry,) = journal.read(STREAM, 1, 10, 1 << 20).records
    assert kinds.open_body(records.decode(entry)) == DiagnosticNote(text="hello")
    assert journal.item(RecordId(bytes.fromhex(identity)), lambda _: 0) is not None


async def test_a_retry_is_one_record_and_applied_once(journal: Journal) -> None:
    identity = await say(journal, "once")
    assert await say(journal, "once", identity) == identity
    assert [sheet.times for sheet in journal.sheets.find(Heard)] == [1]
    assert len(journal.read(STREAM, 1, 10, 1 << 20).records) == 1


async def test_work_that_raises_undoes_itself_and_its_neighbours_stay(journal: Journal) -> None:
    def failing(book: Book) -> None:
        book.write(STREAM, DiagnosticNote(text="lost"))
        book.audit("me", "change", "heard/4")
        raise LookupError("changed my mind")

    async with asyncio.TaskGroup() as callers:  # one group, as the writer is still busy
        first = callers.create_task(say(journal, "before"))
        between = callers.create_task(swallowed(journal.transact(failing)))
        last = callers.create_task(say(journal, "afterwards"))
    assert isinstance(between.result(), LookupError)
    texts = [sheet.text for sheet in journal.sheets.find(Heard)]
    assert sorted(texts) == ["afterwards", "before"]
    run = journal.read(STREAM, 1, 10, 1 << 20)
    assert [records.decode(entry).id.hex() for entry in run.records] == [
        first.result(),
        last.result(),
    ]
    await journal.transact(lambda book: book.audit("me", "read", "heard/6"))
    assert audit_seqs(journal) == [1]


async def swallowed(work: Awaitable[None]) -> Exception | None:
    try:
        await work
    except LookupError as error:
        return error
    return None


def audit_seqs(journal: Journal) -> list[int]:
    return [seq for (seq,) in journal._db.execute("SELECT seq FROM audit ORDER BY seq")]


async def test_a_record_over_the_limit_is_refused_by_name(journal: Journal) -> None:
    with pytest.raises(RecordTooLarge):
        await say(journal, "x" * (1 << 20))
    assert journal.sheets.find(Heard) == []


async def test_what_comes_down_is_applied_or_kept_and_never_half(journal: Journal) -> None:
    epoch = Epoch(b"1" * 16)
    bodies: list[Body] = [DiagnosticNote(text=t) for t in ("surprise", "forbidden", "good")]
    batch = tuple(kinds.encode(body, note().id, 1) for body in bodies)
    mark = journal.down_mark(epoch, STREAM)
    verdict = receive(mark, Frame(epoch, STREAM, 1, mark.hash, batch))
    assert isinstance(verdict, Accepted)
    await journal.receive(epoch, STREAM, verdict)
    assert [(s.text, s.origin) for s in journal.sheets.find(Heard)] == [("good", Origin.HUB)]
    assert journal.held() == 2


async def test_watchers_learn_of_committed_sheets_only(journal: Journal) -> None:
    seen: list[set[tuple[str, str]]] = []
    journal.on_change(seen.append)
    with pytest.raises(RecordError):
        await say(journal, "forbidden")
    await say(journal, "good")
    await asyncio.sleep(0)
    assert seen == [{("heard", "4")}]


async def test_sheets_are_found_by_token_and_lie_in_the_clear_nowhere(
    tmp_path: Path, journal: Journal
) -> None:
    await say(journal, SECRET)
    assert [s.text for s in journal.sheets.find_token(Heard, "text", SECRET)] == [SECRET]
    assert journal.sheets.find_token(Heard, "text", "李四") == []
    on_disk = b"".join(map(Path.read_bytes, [tmp_path / "journal.db", tmp_path / "journal.db-wal"]))
    assert b"heard" in on_disk
    for word in SECRET.split():
        assert word.encode() not in on_disk


async def test_sheets_survive_a_restart_and_a_fork(tmp_path: Path, journal: Journal) -> None:
    await say(journal, "stays")
    await journal.fork(ForkReason.HISTORIES_DIFFER, journal.epoch)
    await say(journal, "after the fork")
    await journal.close()
    again = await opened(tmp_path)
    assert sorted(s.text for s in again.sheets.find(Heard)) == ["after the fork", "stays"]
    assert len(again.sheets.find_token(Heard, "text", "stays")) == 1
    await again.close()


async def test_a_sheet_that_was_moved_to_another_row_does_not_open(
    tmp_path: Path, journal: Journal
) -> None:
    await say(journal, "one")
    with beside(tmp_path) as db:
        db.execute("UPDATE sheet SET key = '7'")
    with pytest.raises(SealBroken):
        journal.sheets.get(Heard, "7")


async def test_the_audit_chain_covers_every_row(journal: Journal) -> None:
    await journal.transact(lambda book: book.audit("me", "read", "heard/1"))
    await journal.transact(lambda book: book.audit("me", "change", "heard/1"))
    rows = journal.sheets.audit_trail(NODE)
    assert [row.entry.action for row in rows if row.entry] == ["read", "change"]
    assert journal.sheets.audit_verify(NODE).finding is None
