"""Poison looked at, put right, released once; and what a later release reads by itself."""

import json

import msgspec
import pytest
from sqlalchemy import Connection

from lianzhen_hub.admin import views
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.projector import RECEIPTS, Step
from lianzhen_hub.ingest.quarantine import (
    HeldRecord,
    NoSuchHeld,
    NotReleased,
    Place,
    Quarantine,
    Verdict,
)
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.page import HubPage
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol import kinds, records
from lianzhen_protocol.audit import HUB_LOG
from lianzhen_protocol.records import Body, RecordAccepted, RecordRejected
from support.lab_fixtures import Note, note
from unit.hub_ingest.box import NODE, NOW_MS, UpStream
from unit.hub_ingest.test_projector import Hub, envelope, new_id

WHY = Verdict(actor="a1", by="Admin Li", why="the text was a number")


class Desk(Hub):
    """The same with a quarantine."""

    def __init__(self, database: Database, vault: Vault, outbox: Outbox) -> None:
        super().__init__(database, vault, outbox)
        self.quarantine = Quarantine(self.projector, vault, outbox, self.page)

    def page(self, db: Connection, now_ms: int, node: str = "") -> HubPage:
        return HubPage(db, self.vault, self.outbox, now_ms, node)

    async def held_one(self, entry: bytes) -> Place:
        """Let one record arrive that cannot be applied."""
        await self.take(UpStream([entry]), 1, 1)
        assert (await self.step()).quarantined == 1
        row = (await self.rows(tables.quarantine, "log_id"))[-1]
        return Place(row.log_id, row.seq)

    async def release(self, place: Place, body: str = "") -> Step:
        verdict = msgspec.structs.replace(WHY, body=body)
        return await self.database.write(
            lambda db: self.quarantine.release(db, place, verdict, NOW_MS)
        )

    async def dismiss(self, place: Place) -> Step:
        return await self.database.write(lambda db: self.quarantine.dismiss(db, place, WHY, NOW_MS))

    async def show(self, place: Place) -> HeldRecord:
        return await self.database.write(
            lambda db: self.quarantine.show(self.page(db, NOW_MS), place, "a1")
        )

    async def try_again(self) -> Step:
        places = await self.database.read(self.quarantine.waiting)
        return await self.database.write(lambda db: self.quarantine.try_again(db, places, NOW_MS))

    async def count(self) -> int:
        return await self.database.read(self.quarantine.count)

    async def answers(self) -> list[Body]:
        """What lies in the outbox for the box."""

        def opened(db: Connection) -> list[Body]:
            return [
                kinds.open_body(records.decode(entry))
                for head in self.outbox.heads(db, NODE)
                for _, _, entry in self.outbox.rows(db, NODE, head, 0)
                if head.stream == RECEIPTS
            ]

        return await self.database.read(opened)

    async def noted(self) -> list[tuple[str, str]]:
        """The hub's audit log: who did what."""

        def look(db: Connection) -> list[tuple[str, str]]:
            rows = self.page(db, NOW_MS).audit_newest(HUB_LOG, 10)
            return [(row.entry.actor, row.entry.action) for row in rows if row.entry]

        return await self.database.read(look)


@pytest.fixture
async def desk(database: Database, vault: Vault, outbox: Outbox) -> Desk:
    made = Desk(database, vault, outbox)
    await database.write(lambda db: made.page(db, NOW_MS).keep_pseudonym_key())
    return made


def bad(identity: bytes) -> bytes:
    """A note whose text is a number."""
    return envelope(identity, "diagnostic.note", body=msgspec.msgpack.encode({"text": 7}))


async def test_a_held_record_is_shown_with_its_body_and_the_look_is_noted(desk: Desk) -> None:
    identity = new_id()
    place = await desk.held_one(bad(identity))
    found = await desk.show(place)
    assert (found.kind, found.version, found.record) == ("diagnostic.note", "1.0", identity.hex())
    assert (found.state, found.code, found.body) == ("held", "record-malformed", {"text": 7})
    assert await desk.noted() == [("a1", "read")]
    (notice,) = await desk.rows(tables.notice, "id")
    assert (notice.code, notice.node) == ("quarantined", NODE)
    assert await desk.count() == 1


async def test_a_record_that_is_put_right_is_applied_once_and_keeps_its_original(
    desk: Desk,
) -> None:
    identity = new_id()
    place = await desk.held_one(bad(identity))
    step = await desk.release(place, json.dumps({"text": "seven"}))
    assert (step.applied, step.told) == (1, frozenset({NODE}))
    assert await desk.applied() == [identity]
    rejected, accepted = await desk.answers()
    assert isinstance(rejected, RecordRejected)
    assert accepted == RecordAccepted(record_id=identity)
    found = await desk.show(place)
    assert (found.state, found.decided_by, found.why) == ("released", WHY.by, WHY.why)
    assert (found.decided_ms, found.body, found.applied) == (NOW_MS, {"text": 7}, {"text": "seven"})
    opened = await desk.database.read(lambda db: views.opened(db, desk.vault, identity))
    assert opened.body == {"text": "seven"}
    assert (await desk.noted())[1:] == [("a1", "change")]
    assert await desk.count() == 0
    with pytest.raises(NoSuchHeld, match="released already"):
        await desk.release(place)
    assert await desk.applied() == [identity]


async def test_what_still_cannot_be_applied_stays_and_nothing_is_changed(desk: Desk) -> None:
    place = await desk.held_one(bad(new_id()))
    for body in ("", json.dumps({"text": 8}), "{", "[]"):
        with pytest.raises(NotReleased) as caught:
            await desk.release(place, body)
        assert caught.value.code == "record-malformed"
    assert (await desk.applied(), await desk.count(), await desk.noted()) == ([], 1, [])
    assert len(await desk.answers()) == 1


async def test_a_record_that_is_dismissed_is_not_held_again(desk: Desk) -> None:
    entry = bad(new_id())
    place = await desk.held_one(entry)
    await desk.dismiss(place)
    told = (await desk.answers())[-1]
    assert isinstance(told, RecordRejected)
    assert (told.code, told.reason) == ("dismissed", WHY.why)
    await desk.take(UpStream([entry]), 1, 1)  # a fork sends it again
    assert await desk.step() == Step(1, 0, 0, frozenset())
    assert (await desk.count(), len(await desk.answers())) == (0, 2)


async def test_a_fork_repeats_a_held_record_and_one_release_settles_it(desk: Desk) -> None:
    entry = bad(new_id())
    place = await desk.held_one(entry)
    await desk.take(UpStream([entry, entry]), 1, 2)
    assert await desk.step() == Step(1, 0, 0, frozenset())
    await desk.release(place, json.dumps({"text": "seven"}))
    await desk.take(UpStream([entry]), 1, 1)
    assert await desk.step() == Step(1, 0, 0, frozenset())
    assert (await desk.count(), len(await desk.applied())) == (0, 1)


async def test_a_held_record_that_comes_again_put_right_waits_no_more(desk: Desk) -> None:
    """The box's own program may send the same record once more, and better."""
    good = note()
    await desk.held_one(bad(good.id))
    await desk.take(UpStream([good.entry]), 1, 1)
    step = await desk.step()
    assert (step.applied, step.told, await desk.count()) == (1, frozenset({NODE}), 0)
    assert (await desk.answers())[-1] == RecordAccepted(record_id=good.id)


async def test_what_is_no_record_can_be_looked_at_and_only_dismissed(desk: Desk) -> None:
    place = await desk.held_one(b"junk")
    assert (await desk.show(place)).raw == b"junk".hex()
    for body in ("", "{}"):
        with pytest.raises(NotReleased):
            await desk.release(place, body)
    await desk.dismiss(place)
    assert (await desk.count(), await desk.answers()) == (0, [])


async def test_a_later_release_applies_what_an_earlier_one_could_not_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch: list[Note] = [note(), note()]
    with monkeypatch.context() as earlier:
        earlier.setattr(kinds, "KINDS", {})
        earlier.setattr(kinds, "_bodies", {})
        await desk.take(UpStream([each.entry for each in batch]), 1, 2)
        await desk.take(UpStream([envelope(new_id(), "future.kind")]), 1, 1)
        assert (await desk.step()).quarantined == 3
        assert await desk.database.read(desk.quarantine.waiting) == []
    step = await desk.try_again()
    assert (step.applied, step.told) == (2, frozenset({NODE}))
    assert sorted(await desk.applied()) == sorted(each.id for each in batch)
    assert await desk.count() == 1  # nobody knows that kind yet
    assert (await desk.try_again()).applied == 0


@pytest.mark.parametrize("text", ["", "7", "a-1", "1-", "-1", "1-2-3", "9-9"])
async def test_a_place_that_is_none(desk: Desk, text: str) -> None:
    with pytest.raises(NoSuchHeld):
        await desk.release(Place.parse(text))
