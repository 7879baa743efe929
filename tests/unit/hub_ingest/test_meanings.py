"""What a record does at the hub: once for its id, whole or not at all, and its author is told."""

from typing import ClassVar

import pytest
from sqlalchemy import Connection, select

from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.intake import Intake
from lianzhen_hub.ingest.projector import Projector, Step
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.page import HubPage, Meanings
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.audit import HUB_LOG
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.records import DiagnosticNote, Record
from lianzhen_protocol.sheets import Index, Sheet, means
from support.lab_fixtures import note
from unit.hub_ingest.box import NODE, NOW_MS, UpStream

ANSWERS = "record.answers"
SECRET = "王五 13800138000"


class Heard(Sheet, frozen=True):
    """How often a text was heard, and from whom."""

    SHEET: ClassVar[str] = "heard"

    text: str
    times: int
    node: str

    def index(self) -> Index:
        return Index(str(len(self.text)), owner=self.node, at_ms=self.times)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        return (("text", self.text),)


def heard(page: HubPage, _record: Record, body: DiagnosticNote) -> None:
    before = page.get(Heard, str(len(body.text)))
    page.put(Heard(text=body.text, times=before.times + 1 if before else 1, node=page.node))
    page.send(page.node, ANSWERS, DiagnosticNote(text=f"heard {body.text}"))
    if body.text == "illegal":
        raise RecordError("that is over", code="consultation-closed")
    if body.text == "surprise":
        raise ZeroDivisionError


MEANINGS: Meanings = dict([means(DiagnosticNote, heard)])


class Hub:
    """Intake and projector on one database, with a meaning for notes."""

    def __init__(self, database: Database, vault: Vault, outbox: Outbox) -> None:
        self.database, self.vault, self.outbox = database, vault, outbox
        self.intake = Intake(vault, lambda *_: True, safe_on_commit=True)
        self.projector = Projector(vault, outbox, self.page, MEANINGS)

    def page(self, db: Connection, now_ms: int, node: str = "") -> HubPage:
        return HubPage(db, self.vault, self.outbox, now_ms, node)

    async def take(self, stream: UpStream) -> Step:
        batch = [stream.frame(1, len(stream.entries))]
        outcome = await self.database.write(lambda db: self.intake.commit(db, batch, NOW_MS))
        self.intake.settle(outcome)
        return await self.database.write(lambda db: self.projector.step(db, NOW_MS))

    async def sheets(self) -> list[Heard]:
        return await self.database.read(lambda db: HubSheets(db, self.vault).find(Heard))

    async def sent(self, stream: str) -> int:
        def counted(db: Connection) -> int:
            return sum(h.last for h in self.outbox.heads(db, NODE) if h.stream == stream)

        return await self.database.read(counted)


@pytest.fixture
async def hub(database: Database, vault: Vault, outbox: Outbox) -> Hub:
    made = Hub(database, vault, outbox)
    await database.write(lambda db: made.page(db, NOW_MS).keep_pseudonym_key())
    return made


def said(*texts: str) -> UpStream:
    return UpStream.of([note(text) for text in texts])


async def test_a_record_changes_sheets_and_answers_in_one_commit(hub: Hub) -> None:
    step = await hub.take(said("hello"))
    assert step == Step(1, 1, 0, frozenset({NODE}), frozenset({("heard", "5")}))
    (sheet,) = await hub.sheets()
    assert (sheet.text, sheet.times, sheet.node) == ("hello", 1, NODE)
    assert await hub.sent(ANSWERS) == 1


async def test_a_record_that_travels_twice_is_applied_once(hub: Hub) -> None:
    same = [note("hello"), note("world!")]
    await hub.take(UpStream.of(same))
    again = await hub.take(UpStream.of(same))  # under a forked epoch
    assert again.changed == frozenset()
    assert [sheet.times for sheet in await hub.sheets()] == [1, 1]
    twice = note("twice in one step")
    await hub.take(UpStream.of([twice, twice]))
    assert [sheet.times for sheet in await hub.sheets()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "code"), [("illegal", "consultation-closed"), ("surprise", "unexpected")]
)
async def test_what_cannot_be_applied_leaves_nothing_and_its_author_is_told(
    hub: Hub, text: str, code: str
) -> None:
    step = await hub.take(said("before", text, "afterwards"))
    assert (step.applied, step.quarantined) == (2, 1)
    assert sorted(sheet.text for sheet in await hub.sheets()) == ["afterwards", "before"]
    assert await hub.sent(ANSWERS) == 2
    assert await hub.sent("record.receipts") == 1
    held = await hub.database.read(
        lambda db: [row.code for row in db.execute(select(tables.quarantine))]
    )
    assert held == [code]


async def test_a_first_record_that_fails_takes_no_key_with_it(hub: Hub) -> None:
    """The down epoch's key was made inside the work that was undone."""
    await hub.take(said("illegal"))
    await hub.take(said("hello"))
    fresh = Vault(hub.vault._keys, hub.database)

    def reopened(db: Connection) -> int:
        return sum(
            len(Outbox(fresh).rows(db, NODE, head, 0)) for head in hub.outbox.heads(db, NODE)
        )

    assert await hub.database.read(reopened) == 2


async def test_sheets_lie_sealed_and_are_found_by_token(hub: Hub) -> None:
    await hub.take(said(SECRET))

    def found(db: Connection) -> tuple[int, int, bytes]:
        sheets = HubSheets(db, hub.vault)
        hits = len(sheets.find_token(Heard, "text", SECRET))
        misses = len(sheets.find_token(Heard, "text", "else"))
        return hits, misses, bytes(db.execute(select(tables.sheet.c.sealed)).scalar_one())

    hits, misses, sealed = await hub.database.read(found)
    assert (hits, misses) == (1, 0)
    assert all(word.encode() not in sealed for word in SECRET.split())


async def test_sheets_come_in_the_order_that_was_asked_for(hub: Hub) -> None:
    def written(db: Connection) -> None:
        page = hub.page(db, NOW_MS)
        for at, text in enumerate(("a", "bb", "ccc"), 1):
            page.put(Heard(text=text, times=at, node="n1" if at < 3 else "n2"))
        page.delete(Heard, "2")

    await hub.database.write(written)

    def asked(db: Connection) -> list[list[str]]:
        sheets = HubSheets(db, hub.vault)
        return [
            [sheet.text for sheet in found]
            for found in (
                sheets.find(Heard, newest=True),
                sheets.find(Heard, owner="n1"),
                sheets.find(Heard, since_ms=2),
                sheets.find(Heard, limit=1),
            )
        ]

    assert await hub.database.read(asked) == [["ccc", "a"], ["a"], ["ccc"], ["a"]]


async def test_the_hubs_audit_chain_covers_every_row(hub: Hub) -> None:
    def noted(db: Connection) -> None:
        page = hub.page(db, NOW_MS)
        page.audit("Dr Wang", "read", "heard/1")
        page.audit("Dr Wang", "change", "heard/1")

    await hub.database.write(noted)
    verdict = await hub.database.read(lambda db: HubSheets(db, hub.vault).audit_verify(HUB_LOG))
    assert (verdict.rows, verdict.head.seq, verdict.finding) == (2, 2, None)
