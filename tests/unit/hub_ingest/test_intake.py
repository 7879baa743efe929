"""From frame to log: one transaction, and marks that move with it or not at all."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Row, delete, select

from lianzhen_hub.ingest.intake import (
    UNKNOWN_SESSION,
    Arrived,
    Intake,
    Mark,
    Outcome,
    Overtaken,
)
from lianzhen_hub.ingest.projector import log_entries
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol.frame import FrameCodec
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.marks import StreamMark
from lianzhen_protocol.sealing import record_place
from lianzhen_runtime.keys import FileKeys
from support.lab_fixtures import notes
from unit.hub_ingest.box import NODE, NOW_MS, STREAM, UpStream


class Failed(Exception):
    """Something in the transaction, after the intake's part of it."""


class Hub:
    """An intake on a database, as the service drives it."""

    def __init__(self, database: Database, vault: Vault, *, safe_on_commit: bool = True) -> None:
        self.database, self.vault = database, vault
        self.strangers: set[Epoch] = set()
        self.epochs: list[Epoch] = []
        self.intake = Intake(
            vault, self._admitted, lambda *_: self.epochs, safe_on_commit=safe_on_commit
        )

    def _admitted(self, _node: NodeId, _group: Group, epoch: Epoch) -> bool:
        return epoch not in self.strangers

    async def take(self, *batch: Arrived) -> Outcome:
        outcome = await self.database.write(lambda db: self.intake.commit(db, batch, NOW_MS))
        self.intake.settle(outcome)
        return outcome

    async def mark(self, stream: UpStream) -> Mark:
        return await self.database.read(lambda db: self.intake.mark(db, stream.key))

    async def log(self, vault: Vault | None = None) -> list[tuple[str, int, list[bytes]]]:
        """(stream, first, records) of every row, opened from the table."""

        def opened(db: Connection) -> list[tuple[str, int, list[bytes]]]:
            rows = db.execute(select(tables.log).order_by(tables.log.c.id)).all()
            return [(row.stream, row.first, self._records(db, vault, row)) for row in rows]

        return await self.database.read(opened)

    def _records(self, db: Connection, vault: Vault | None, row: Row[Any]) -> list[bytes]:
        found = list(log_entries(db, vault or self.vault, FrameCodec(), row))
        assert [seq for seq, _ in found] == list(range(row.first, row.first + row.count))
        return [entry for _, entry in found]


@pytest.fixture
def hub(database: Database, vault: Vault) -> Hub:
    return Hub(database, vault)


def mark_of(stream: UpStream, seq: int, *, gap: bool = False) -> StreamMark:
    return StreamMark(stream.key.stream, stream.position(seq), seq, gap)


# -- what is taken


async def test_a_new_stream_lies_in_the_log_as_it_was_sent(hub: Hub) -> None:
    stream = UpStream.of(notes(3))
    outcome = await hub.take(stream.frame(1, 3))
    assert outcome.marks == {stream.key: mark_of(stream, 3)}
    assert (outcome.records, outcome.turned) == (3, [])
    assert await hub.log() == [(STREAM, 1, stream.entries)]
    hub.intake.forget(NODE)  # now from the table
    assert await hub.mark(stream) == Mark(stream.position(3), 3)


async def test_frames_of_many_streams_are_one_batch(hub: Hub) -> None:
    alarm, record = UpStream.of(notes(2)), UpStream.of(notes(5))
    alarm.key = alarm.key._replace(stream="alarm", epoch=record.key.epoch)
    outcome = await hub.take(record.frame(1, 2), alarm.frame(1, 2), record.frame(3, 5))
    assert outcome.marks == {record.key: mark_of(record, 5), alarm.key: mark_of(alarm, 2)}
    assert outcome.records == 7


async def test_where_a_backup_is_needed_committed_is_not_yet_safe(
    database: Database, vault: Vault
) -> None:
    hub = Hub(database, vault, safe_on_commit=False)
    stream = UpStream.of(notes(3))
    outcome = await hub.take(stream.frame(1, 3))
    assert outcome.marks[stream.key] == StreamMark(STREAM, stream.position(3), 0)


@pytest.mark.parametrize("first", range(1, 7))
async def test_of_a_frame_that_was_cut_anew_only_the_rest_is_taken(hub: Hub, first: int) -> None:
    stream = UpStream.of(notes(8))
    await hub.take(stream.frame(1, 5))
    outcome = await hub.take(stream.frame(first, 8))
    assert outcome.marks[stream.key] == mark_of(stream, 8)
    assert outcome.records == 3
    assert await hub.log() == [(STREAM, 1, stream.entries[:5]), (STREAM, 6, stream.entries[5:])]


async def test_a_repeated_frame_is_acknowledged_and_not_logged(hub: Hub) -> None:
    stream = UpStream.of(notes(5))
    await hub.take(stream.frame(1, 5))
    outcome = await hub.take(stream.frame(2, 4), stream.frame(1, 5))
    assert outcome.marks == {stream.key: mark_of(stream, 5)}
    assert (outcome.moved, outcome.records) == ({}, 0)
    assert len(await hub.log()) == 1


# -- short frames


async def test_short_frames_are_taken_as_whole_ones_are(hub: Hub) -> None:
    other, stream = UpStream.of(notes(1)), UpStream.of(notes(5))
    hub.epochs = [other.key.epoch, stream.key.epoch]
    outcome = await hub.take(stream.short(1, 2), stream.short(3, 3), stream.frame(3, 5))
    assert outcome.marks == {stream.key: mark_of(stream, 5)}
    assert (outcome.records, outcome.turned) == (5, [])
    assert [first for _, first, _ in await hub.log()] == [1, 3, 4]
    assert [each for *_, found in await hub.log() for each in found] == stream.entries


async def test_a_short_frame_is_taken_at_its_place_and_nowhere_else(hub: Hub) -> None:
    stream, twin = UpStream.of(notes(6)), UpStream.of(notes(6))
    twin.key = stream.key
    hub.epochs = [stream.key.epoch]
    for frame, gap in (
        (stream.short(3, 4), True),  # ahead
        (twin.short(1, 2), False),
        (stream.short(3, 4), True),  # another history than the one that is there
        (twin.short(1, 2), False),  # repeated
        (twin.short(2, 4), True),  # it overlaps: all from the mark on, in a whole frame
        (twin.frame(2, 4), False),
        (twin.short(5, 6), False),
    ):
        outcome = await hub.take(frame)
        assert outcome.marks[stream.key].gap == gap
    assert [each for *_, found in await hub.log() for each in found] == twin.entries


async def test_a_short_frame_of_an_epoch_that_said_no_hello_is_answered_so(hub: Hub) -> None:
    stream = UpStream.of(notes(1))
    outcome = await hub.take(stream.short(1, 1))
    assert [each.code for each in outcome.turned] == [UNKNOWN_SESSION]
    assert outcome.marks == {}


async def test_a_short_frame_that_cannot_be_read_is_turned_away(hub: Hub) -> None:
    stream = UpStream.of(notes(1))
    hub.epochs = [stream.key.epoch]
    good = stream.short(1, 1)
    outcome = await hub.take(good._replace(wire=good.wire[:-1]), good._replace(wire=b"\x21"))
    assert [each.code for each in outcome.turned] == ["frame-malformed"] * 2
    assert await hub.log() == []


# -- what is not


async def test_a_frame_behind_a_gap_asks_for_what_is_missing(hub: Hub) -> None:
    stream = UpStream.of(notes(6))
    outcome = await hub.take(stream.frame(3, 4))
    assert outcome.marks == {stream.key: mark_of(stream, 0, gap=True)}
    await hub.take(stream.frame(1, 2))
    outcome = await hub.take(stream.frame(5, 6))
    assert outcome.marks == {stream.key: mark_of(stream, 2, gap=True)}
    assert await hub.log() == [(STREAM, 1, stream.entries[:2])]


async def test_of_overtaken_frames_in_one_batch_the_right_one_is_taken(hub: Hub) -> None:
    stream = UpStream.of(notes(6))
    outcome = await hub.take(stream.frame(4, 6), stream.frame(1, 3))
    assert outcome.marks == {stream.key: mark_of(stream, 3)}


async def test_another_history_under_the_same_numbers_is_not_taken(hub: Hub) -> None:
    stream = UpStream.of(notes(4))
    await hub.take(stream.frame(1, 4))
    clone = UpStream.of(notes(8), epoch=stream.key.epoch)
    for first in (3, 5):
        outcome = await hub.take(clone.frame(first, 8))
        assert outcome.marks == {stream.key: mark_of(stream, 4, gap=True)}
    assert await hub.log() == [(STREAM, 1, stream.entries)]


def garbled(arrived: Arrived) -> Arrived:
    return arrived._replace(wire=arrived.wire[:-1] + bytes([arrived.wire[-1] ^ 1]))


def later(arrived: Arrived) -> Arrived:
    return arrived._replace(wire=arrived.wire[:2] + b"\x02" + arrived.wire[3:])


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (garbled, "frame-malformed"),
        (later, "frame-version"),
        (lambda arrived: arrived._replace(wire=b""), "frame-malformed"),
        (lambda arrived: arrived._replace(stream="alarm"), "frame-malformed"),
        (lambda arrived: arrived._replace(stream="gossip"), "topic-malformed"),
        (lambda arrived: arrived._replace(wire=bytes(2 << 20)), "frame-too-large"),
    ],
    ids=["garbled", "later-version", "empty", "other-topic", "no-lane", "too-large"],
)
async def test_what_cannot_be_read_is_turned_away_and_its_neighbours_taken(
    hub: Hub, harm: Callable[[Arrived], Arrived], code: str
) -> None:
    stream, other = UpStream.of(notes(4)), UpStream.of(notes(1))
    outcome = await hub.take(stream.frame(1, 2), harm(other.frame(1, 1)), stream.frame(3, 4))
    assert outcome.marks == {stream.key: mark_of(stream, 4)}
    (turned,) = outcome.turned
    assert (turned.node, turned.code) == (NODE, code)


async def test_a_frame_without_a_session_is_turned_away(hub: Hub) -> None:
    stream, stranger = UpStream.of(notes(2)), UpStream.of(notes(2))
    hub.strangers.add(stranger.key.epoch)
    outcome = await hub.take(stranger.frame(1, 2), stream.frame(1, 2))
    assert list(outcome.marks) == [stream.key]
    assert [turned.code for turned in outcome.turned] == [UNKNOWN_SESSION]
    assert [entries for _, _, entries in await hub.log()] == [stream.entries]


# -- all or nothing


async def test_marks_stay_where_they_were_if_the_transaction_fails(
    hub: Hub, keys: FileKeys
) -> None:
    known, fresh = UpStream.of(notes(4)), UpStream.of(notes(2))
    await hub.take(known.frame(1, 2))

    def failing(db: Connection) -> None:
        hub.intake.commit(db, [known.frame(3, 4), fresh.frame(1, 2)], NOW_MS)
        raise Failed

    with pytest.raises(Failed):
        await hub.database.write(failing)
    assert await hub.mark(known) == Mark(known.position(2), 2)
    assert await hub.mark(fresh) == Mark(fresh.position(0), 0)
    assert len(await hub.log()) == 1

    outcome = await hub.take(known.frame(3, 4), fresh.frame(1, 2))
    assert outcome.marks == {known.key: mark_of(known, 4), fresh.key: mark_of(fresh, 2)}
    started_anew = Vault(keys, hub.database)
    assert [entries for _, _, entries in await hub.log(started_anew)] == [
        known.entries[:2],
        known.entries[2:],
        fresh.entries,
    ]


async def test_a_key_that_was_rolled_back_seals_nothing(
    database: Database, vault: Vault, keys: FileKeys
) -> None:
    epoch, nonce = Epoch(secrets.token_bytes(16)), secrets.token_bytes(12)
    place = record_place(NODE, epoch, STREAM, 1)

    def failing(db: Connection) -> None:
        vault.key(db, NODE, epoch)
        raise Failed

    with pytest.raises(Failed):
        await database.write(failing)
    sealed = await database.write(lambda db: vault.key(db, NODE, epoch).seal(nonce, b"x", place))
    anew = Vault(keys, database)
    assert await database.read(lambda db: anew.key(db, NODE, epoch).open(sealed, place)) == b"x"


async def test_a_restored_database_is_believed_at_the_next_hello(hub: Hub) -> None:
    stream = UpStream.of(notes(4))
    await hub.take(stream.frame(1, 2))
    await hub.take(stream.frame(3, 4))

    def restore(db: Connection) -> None:
        db.execute(delete(tables.log).where(tables.log.c.first == 3))
        hash_ = stream.hash_at(2)
        db.execute(tables.mark.update().values(committed=2, hash=hash_, safe=2))

    await hub.database.write(restore)
    hub.intake.forget(NODE)
    assert (await hub.take(stream.frame(3, 4))).marks[stream.key] == mark_of(stream, 4)


@pytest.mark.parametrize("known", [0, 2])
async def test_a_mark_that_somebody_moved_meanwhile_lets_nothing_in(
    hub: Hub, vault: Vault, known: int
) -> None:
    """Two ingests of one stream, as when one is started anew while the other ends: no log of
    several months has a key that holds for all of them, so the mark is the guard.
    """
    stream, other = UpStream.of(notes(6)), Hub(hub.database, vault)
    if known:
        await hub.take(stream.frame(1, known))
    await other.take(stream.frame(known + 1, 3))
    hub.intake._marks = {NODE: {stream.key: Mark(stream.position(known), known)}}  # as it read it
    before = await hub.log()
    with pytest.raises(Overtaken):
        await hub.take(stream.frame(known + 1, 4))
    assert await hub.log() == before
    assert (await other.mark(stream)).committed.seq == 3
    hub.intake.doubt()
    await hub.take(stream.frame(known + 1, 4))
    assert [entry for *_, entries in await hub.log() for entry in entries] == stream.entries[:4]


async def test_a_caller_that_is_cancelled_does_not_half_commit(hub: Hub) -> None:
    stream = UpStream.of(notes(2))
    async with asyncio.TaskGroup() as callers:
        taking = callers.create_task(hub.take(stream.frame(1, 2)))
        await asyncio.sleep(0)
        taking.cancel()
    await hub.database.write(lambda _db: None)  # whatever began before it has ended
    logged = await hub.log()
    hub.intake.forget(NODE)
    assert (await hub.mark(stream)).committed.seq == sum(len(found) for *_, found in logged)
