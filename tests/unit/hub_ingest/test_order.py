"""Several ingests write one log and commit in any order; the projector passes nothing over."""

import threading

import pytest
from sqlalchemy import Connection

from lab import Postgres
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.intake import Intake
from lianzhen_hub.ingest.order import NextRows
from lianzhen_hub.ingest.projector import Step
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store import sql, tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.records import DiagnosticNote
from support.lab_fixtures import notes
from unit.hub_ingest.box import NODE, NOW_MS, UpStream
from unit.hub_ingest.test_projector import Hub


@pytest.fixture(scope="module")
def address(postgres: Postgres) -> str:
    """Only where there can be several writers."""
    postgres.empty()
    return postgres.url


class Slow:
    """Another ingest, whose transaction has taken its numbers and does not end."""

    def __init__(self, database: Database, vault: Vault, stream: UpStream) -> None:
        self._intake = Intake(vault, lambda *_: True, safe_on_commit=True)
        self._stream = stream
        self._link = database.engine.connect()
        self._transaction = self._link.begin()

    def write(self, first: int, last: int) -> None:
        self._intake.commit(self._link, [self._stream.frame(first, last)], NOW_MS)

    def end(self, *, committed: bool) -> None:
        if committed:
            self._transaction.commit()
        else:
            self._transaction.rollback()
        self._link.close()


@pytest.mark.parametrize("committed", [True, False])
async def test_what_commits_late_is_waited_for(
    database: Database, vault: Vault, outbox: Outbox, *, committed: bool
) -> None:
    hub = Hub(database, vault, outbox)
    late, soon = UpStream.of(notes(2)), UpStream.of(notes(3))
    for stream in (late, soon):  # the hello does that
        await database.write(lambda db, key=stream.key: vault.key(db, key.node, key.epoch))  # type: ignore[misc]
    slow = Slow(database, vault, late)
    slow.write(1, 2)
    await hub.take(soon, 1, 3)
    for _ in range(2):
        step = await hub.step()
        assert (step.rows, step.waits) == (0, True)
    slow.end(committed=committed)
    expected = [*(late.entries if committed else []), *soon.entries]
    assert await hub.step() == Step(2 if committed else 1, len(expected), 0, frozenset())
    assert await hub.step() == Step(0, 0, 0, frozenset())


async def test_a_hole_that_opens_later_is_a_hole_of_its_own(
    database: Database, vault: Vault, outbox: Outbox
) -> None:
    hub = Hub(database, vault, outbox)
    streams = [UpStream.of(notes(1)) for _ in range(4)]
    for stream in streams:
        await database.write(lambda db, key=stream.key: vault.key(db, key.node, key.epoch))  # type: ignore[misc]
    first = Slow(database, vault, streams[0])
    first.write(1, 1)
    await hub.take(streams[1], 1, 1)
    assert (await hub.step()).waits
    second = Slow(database, vault, streams[2])
    second.write(1, 1)
    await hub.take(streams[3], 1, 1)
    first.end(committed=False)
    assert (await hub.step()).rows == 1
    assert (await hub.step()).waits
    second.end(committed=True)
    assert (await hub.step()).rows == 2


async def test_a_hub_whose_clock_was_set_back_passes_nothing_over(database: Database) -> None:
    """The log is parted by time and read by number: months are asked first, and believed only
    where the numbers follow.
    """
    year = 365 * 86_400_000
    times = [NOW_MS, NOW_MS, NOW_MS - year, NOW_MS, NOW_MS + 2 * year, 5, NOW_MS]
    run = {"node": NODE, "epoch": b"e" * 16, "stream": "record.diagnostic", "first": 1}
    rows = [run | {"count": 1, "sealed": b"", "received_ms": ms} for ms in times]
    await database.write(lambda db: sql.insert(db, tables.log, rows))

    def read_all(db: Connection) -> list[int]:
        found, log = list[int](), NextRows(2)
        while rows := log.after(db, found[-1] if found else 0, NOW_MS):
            found += [row.id for row in rows]
        assert log.after(db, found[-1], NOW_MS - year) == []
        return found

    assert await database.read(read_all) == [1, 2, 3, 4, 5, 6, 7]
    gone = tables.log.delete().where(tables.log.c.id.in_([4, 7]))
    await database.write(lambda db: db.execute(gone))
    assert await database.read(read_all) == [1, 2, 3, 5, 6]


async def test_two_who_write_what_goes_down_take_turns(
    database: Database, vault: Vault, outbox: Outbox
) -> None:
    """The hub appends while a shard forks: neither sees half of the other's work."""
    node = NodeId(NODE)
    await database.write(lambda db: _append(outbox, db, node, 3))
    forked, may_end = threading.Event(), threading.Event()

    def fork() -> None:
        with database.engine.begin() as link:
            outbox.fork(link, node, NOW_MS)
            forked.set()
            may_end.wait(30)

    thread = threading.Thread(target=fork)
    thread.start()
    assert forked.wait(30)
    threading.Timer(0.2, may_end.set).start()
    await database.write(lambda db: _append(outbox, db, node, 1))
    thread.join()
    (head,) = await database.read(lambda db: outbox.heads(db, node))
    rows = await database.read(lambda db: outbox.rows(db, node, head, 0))
    assert (head.last, [seq for seq, _, _ in rows]) == (4, [1, 2, 3, 4])


def _append(outbox: Outbox, db: Connection, node: NodeId, count: int) -> None:
    for number in range(count):
        outbox.append(db, node, "record.receipts", DiagnosticNote(text=str(number)), NOW_MS)
