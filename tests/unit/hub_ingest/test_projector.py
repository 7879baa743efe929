"""From log to meaning: once for each record, poison set aside, its author told."""

import secrets
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Row, delete, select, update

from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.intake import Intake
from lianzhen_hub.ingest.projector import CHUNK, RECEIPTS, Projector, Step
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.meanings import MEANINGS
from lianzhen_hub.page import HubPage
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol import kinds, records
from lianzhen_protocol.frame import MAX_RECORD_BYTES
from lianzhen_protocol.identity import Epoch, RecordId, uuid7
from lianzhen_protocol.records import Record, RecordRejected, RecordSeen
from support.lab_fixtures import note, notes
from unit.hub_ingest.box import NODE, NOW_MS, UpStream


class Hub:
    """Intake and projector on one database."""

    def __init__(self, database: Database, vault: Vault, outbox: Outbox) -> None:
        self.database, self.vault, self.outbox = database, vault, outbox
        self.intake = Intake(vault, lambda *_: True, safe_on_commit=True)

        def page(db: Connection, now_ms: int, node: str) -> HubPage:
            return HubPage(db, vault, outbox, now_ms, node)

        self.projector = Projector(vault, outbox, page, MEANINGS)

    async def take(self, stream: UpStream, first: int, last: int) -> None:
        batch = [stream.frame(first, last)]
        outcome = await self.database.write(lambda db: self.intake.commit(db, batch, NOW_MS))
        self.intake.settle(outcome)

    async def step(self) -> Step:
        return await self.database.write(lambda db: self.projector.step(db, NOW_MS))

    async def rows(self, table: Any, *order: str) -> list[Row[Any]]:
        query = select(table).order_by(*(table.c[name] for name in order))
        return await self.database.read(lambda db: list(db.execute(query)))

    async def applied(self) -> list[bytes]:
        return [bytes(row.id) for row in await self.rows(tables.record, "log_id", "seq")]

    async def held(self) -> list[tuple[int, str]]:
        return [(row.seq, row.code) for row in await self.rows(tables.quarantine, "log_id", "seq")]

    async def told(self) -> list[RecordRejected]:
        """What lies in the outbox for the box."""

        def opened(db: Connection) -> list[RecordRejected]:
            entries = [
                kinds.open_body(records.decode(entry))
                for head in self.outbox.heads(db, NODE)
                for _, _, entry in self.outbox.rows(db, NODE, head, 0)
                if head.stream == RECEIPTS
            ]
            assert all(isinstance(body, RecordRejected) for body in entries)
            return [body for body in entries if isinstance(body, RecordRejected)]

        return await self.database.read(opened)


@pytest.fixture
def hub(database: Database, vault: Vault, outbox: Outbox) -> Hub:
    return Hub(database, vault, outbox)


def new_id() -> RecordId:
    return uuid7(NOW_MS, secrets.token_bytes(10))


def envelope(identity: bytes, kind: str, major: int = 1, body: bytes = b"\x80") -> bytes:
    return msgspec.msgpack.encode(Record(identity, kind, major, 0, NOW_MS, body))


# -- once


async def test_records_are_applied_in_their_order(hub: Hub) -> None:
    batch = notes(5)
    stream = UpStream.of(batch)
    await hub.take(stream, 1, 3)
    await hub.take(stream, 4, 5)
    assert await hub.step() == Step(2, 5, 0, frozenset())
    assert await hub.step() == Step(0, 0, 0, frozenset())
    assert await hub.applied() == [each.id for each in batch]
    first, *_ = await hub.rows(tables.record, "seq")
    assert (first.node, first.epoch, first.stream, first.seq) == (*stream.key, 1)
    assert (first.kind, first.received_ms) == ("diagnostic.note", NOW_MS)


async def test_a_long_log_is_applied_in_short_transactions(hub: Hub) -> None:
    batch = notes(CHUNK + 3)
    stream = UpStream.of(batch)
    for seq in range(1, len(batch) + 1):
        await hub.take(stream, seq, seq)
    assert [(await hub.step()).rows for _ in range(3)] == [CHUNK, 3, 0]
    assert await hub.applied() == [each.id for each in batch]


async def test_a_step_that_is_repeated_changes_nothing(hub: Hub) -> None:
    stream = UpStream.of(notes(3))
    stream.entries += [envelope(new_id(), "future.kind"), note().entry]
    await hub.take(stream, 1, 5)
    await hub.step()
    before = await hub.rows(tables.record, "id"), await hub.rows(tables.quarantine, "seq")
    await hub.database.write(lambda db: db.execute(delete(tables.cursor)))
    assert (await hub.step()).rows == 1
    after = await hub.rows(tables.record, "id"), await hub.rows(tables.quarantine, "seq")
    assert after == before


async def test_records_that_come_again_under_a_forked_epoch_are_applied_once(hub: Hub) -> None:
    batch = notes(4)
    before = UpStream.of(batch[:3])
    forked = UpStream.of(batch[1:])  # the first one was safe
    await hub.take(before, 1, 3)
    await hub.step()
    await hub.take(forked, 1, 3)
    await hub.step()
    assert await hub.applied() == [each.id for each in batch]
    places = [(bytes(row.epoch), row.seq) for row in await hub.rows(tables.record, "log_id", "seq")]
    old, new = before.key.epoch, forked.key.epoch
    assert places == [(old, 1), (old, 2), (old, 3), (new, 3)]


async def test_a_record_twice_in_one_step_is_applied_once(hub: Hub) -> None:
    batch = notes(2)
    await hub.take(UpStream.of(batch), 1, 2)
    await hub.take(UpStream.of([batch[1], batch[0]]), 1, 2)
    await hub.step()
    assert await hub.applied() == [each.id for each in batch]


async def test_a_step_that_fails_leaves_the_cursor_where_it_was(hub: Hub) -> None:
    batch = notes(2)
    await hub.take(UpStream.of(batch), 1, 2)

    def failing(db: Connection) -> None:
        hub.projector.step(db, NOW_MS)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await hub.database.write(failing)
    assert await hub.applied() == []
    assert (await hub.step()).applied == 2


# -- poison


def seen_going_up(identity: RecordId) -> bytes:
    body = RecordSeen(record_id=identity, seen_by="me", seen_ms=1)
    return kinds.encode(body, identity, NOW_MS)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda identity: envelope(identity, "future.kind"), "record-kind-unknown"),
        (lambda identity: envelope(identity, "nul\0\n.kind"), "record-kind-unknown"),
        (lambda identity: envelope(identity, "diagnostic.note", 9), "record-version"),
        (lambda identity: envelope(identity, "diagnostic.note", body=b"\xc1"), "record-malformed"),
        (lambda identity: envelope(identity, "diagnostic.note"), "record-malformed"),
        (seen_going_up, "record-misplaced"),
    ],
    ids=["unknown", "control-characters", "version", "no-msgpack", "no-text", "misplaced"],
)
async def test_poison_is_held_its_author_told_and_its_neighbours_applied(
    hub: Hub, make: Any, code: str
) -> None:
    before, after, identity = note(), note(), new_id()
    stream = UpStream([before.entry, make(identity), after.entry])
    await hub.take(stream, 1, 3)
    assert await hub.step() == Step(1, 2, 1, frozenset({NODE}))
    assert await hub.applied() == [before.id, after.id]
    assert await hub.held() == [(2, code)]
    (told,) = await hub.told()
    assert (told.record_id, told.code) == (identity, code)
    assert told.reason


async def test_what_is_no_record_at_all_is_held_and_nobody_can_be_told(hub: Hub) -> None:
    stream = UpStream([b"junk", note().entry, b"", envelope(b"short", "diagnostic.note")])
    await hub.take(stream, 1, 4)
    assert await hub.step() == Step(1, 1, 3, frozenset())
    assert await hub.held() == [(seq, "record-malformed") for seq in (1, 3, 4)]
    assert await hub.told() == []


async def test_what_the_author_is_told_fits_a_record_whatever_he_wrote(hub: Hub) -> None:
    stream = UpStream([envelope(new_id(), "\0" * 900_000)])
    await hub.take(stream, 1, 1)
    await hub.step()
    (told,) = await hub.told()
    assert len(kinds.encode(told, new_id(), NOW_MS)) < MAX_RECORD_BYTES // 1000


async def test_a_row_that_the_disk_damaged_is_held_and_the_log_goes_on(hub: Hub) -> None:
    batch = notes(5)
    stream = UpStream.of(batch)
    for first, last in ((1, 1), (2, 4), (5, 5)):
        await hub.take(stream, first, last)
    log = tables.log
    harm = update(log).where(log.c.first == 2).values(sealed=b"\x01" + bytes(80))
    await hub.database.write(lambda db: db.execute(harm))
    assert await hub.step() == Step(3, 2, 3, frozenset())
    assert await hub.applied() == [batch[0].id, batch[4].id]
    assert await hub.held() == [(seq, "seal-broken") for seq in (2, 3, 4)]
    (notice,) = await hub.rows(tables.notice, "id")
    assert (notice.node, notice.code) == (NODE, "seal-broken")


async def test_epochs_have_keys_of_their_own(hub: Hub) -> None:
    old, new = UpStream.of(notes(1)), UpStream.of(notes(1))
    await hub.take(old, 1, 1)
    await hub.take(new, 1, 1)
    stored = {Epoch(row.epoch) for row in await hub.rows(tables.data_key, "epoch")}
    assert stored == {old.key.epoch, new.key.epoch}
