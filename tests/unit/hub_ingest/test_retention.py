"""What leaves the hub's database, and that whatever comes again is known all the same."""

from pathlib import Path

import pytest
from sqlalchemy import Connection

from lab import Postgres
from lianzhen_hub.admin import views
from lianzhen_hub.backup.dumps import dump, load, snapshot
from lianzhen_hub.backup.keeping import BACKUP, note_run
from lianzhen_hub.hub import Hub as RunningHub
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.intake import Intake
from lianzhen_hub.ingest.projector import Step
from lianzhen_hub.ingest.quarantine import Place, Quarantine, Verdict
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.page import HubPage
from lianzhen_hub.retention import Removed, Retention
from lianzhen_hub.settings import Settings
from lianzhen_hub.store import months, tables
from lianzhen_hub.store.database import Database
from lianzhen_hub.store.notices import tell
from lianzhen_protocol import kinds
from lianzhen_protocol.audit import HUB_LOG
from lianzhen_protocol.telemetry import LanesReported
from lianzhen_runtime import config
from lianzhen_runtime.errors import ConfigError
from lianzhen_runtime.keys import FileKeys
from support.lab_fixtures import note, notes
from unit.hub_ingest.box import NOW_MS, UpStream
from unit.hub_ingest.test_projector import Hub, envelope, new_id

DAY_MS = 86_400_000
LATER_MS = NOW_MS + 400 * DAY_MS
PEOPLE = "record.people"


class Old(Hub):
    """A hub with rows of long ago."""

    def __init__(self, database: Database, vault: Vault, outbox: Outbox) -> None:
        super().__init__(database, vault, outbox)
        self.quarantine = Quarantine(self.projector, vault, outbox, self.page)

    def page(self, db: Connection, now_ms: int, node: str = "") -> HubPage:
        return HubPage(db, self.vault, self.outbox, now_ms, node)

    async def bring(self, *entries: bytes, name: str = "record.diagnostic") -> UpStream:
        """A stream of its own, one run."""
        stream = UpStream(entries, name=name)
        await self.take(stream, 1, len(entries))
        while (await self.step()).rows:
            pass
        return stream

    async def back_up(self) -> None:
        """As a verified backup is noted."""

        def noted(db: Connection) -> None:
            note_run(db, BACKUP, NOW_MS, "x", 0, snapshot(db).applied)

        await self.database.write(noted)

    async def retain(self, days: int = 183, now_ms: int = LATER_MS) -> Removed:
        return await Retention(self.database, days, 0).once(now_ms)

    async def logged(self) -> list[str]:
        """The streams of the log's rows."""
        return [row.stream for row in await self.rows(tables.log, "id")]


@pytest.fixture
async def hub(database: Database, vault: Vault, outbox: Outbox) -> Old:
    def anew(db: Connection) -> None:
        if database.backend == "postgresql":
            for month in months.months(db, months.LOG):
                db.exec_driver_sql(f"DROP TABLE {month.name}")
            months.keep_ahead(db, NOW_MS)

    await database.write(anew)
    return Old(database, vault, outbox)


def months_there(db: Connection) -> list[str]:
    return [month.name for month in months.months(db, months.LOG)]


# -- what leaves


async def test_an_old_run_that_is_kept_elsewhere_or_nobodys_leaves(hub: Old) -> None:
    await hub.bring(*(each.entry for each in notes(3)))
    person = await hub.bring(note().entry, name=PEOPLE)
    await hub.back_up()
    assert await hub.retain() == Removed(runs=1)
    assert await hub.logged() == [PEOPLE]
    assert await hub.retain() == Removed()
    if hub.database.backend == "postgresql":
        assert await hub.database.read(months_there) == ["log_2027_01_kept"]
    opened = await hub.rows(tables.record, "log_id", "seq")
    found = await hub.database.read(
        lambda db: views.opened(db, hub.vault, bytes(opened[-1].id)).about.stream
    )
    assert found == person.key.stream
    with pytest.raises(views.NoSuchRecord, match="has left the log"):
        await hub.database.read(lambda db: views.opened(db, hub.vault, bytes(opened[0].id)))


async def test_a_month_of_which_nothing_stays_is_dropped(hub: Old) -> None:
    await hub.bring(note().entry)
    await hub.back_up()
    assert (await hub.retain()).runs == 1
    if hub.database.backend == "postgresql":
        assert await hub.database.read(months_there) == []  # nor do those stay that had nothing
    assert await hub.logged() == []
    await hub.bring(note().entry)
    assert len(await hub.logged()) == 1


async def test_more_than_one_transaction_takes_leave(
    hub: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lianzhen_hub.retention.MOST", 2)
    for name in (PEOPLE, "record.diagnostic", "record.diagnostic") * 3:
        await hub.bring(note().entry, name=name)
    await hub.back_up()
    assert (await hub.retain()).runs == 6
    assert await hub.logged() == [PEOPLE] * 3


# -- what does not


@pytest.mark.parametrize("days", [0, 401])
async def test_what_is_not_due_stays(hub: Old, days: int) -> None:
    await hub.bring(note().entry)
    await hub.back_up()
    assert await hub.retain(days) == Removed()
    assert len(await hub.logged()) == 1


async def test_what_no_backup_holds_or_nobody_applied_stays(hub: Old) -> None:
    await hub.bring(note().entry)
    assert await hub.retain() == Removed()
    await hub.back_up()
    await hub.bring(note().entry)
    await hub.take(UpStream.of(notes(1)), 1, 1)
    await hub.retain()
    assert len(await hub.logged()) >= 2
    await hub.database.write(lambda db: note_run(db, BACKUP, NOW_MS, "y", 0))  # of a release before
    assert await hub.retain() == Removed()


async def test_a_run_with_something_else_in_it_stays(hub: Old) -> None:
    """A program on a box may put any kind of record into any stream."""
    other = kinds.encode(LanesReported(lanes=()), new_id(), NOW_MS)
    await hub.bring(note().entry, other)
    await hub.bring(envelope(new_id(), "future.kind"))
    await hub.back_up()
    assert await hub.retain() == Removed()
    assert len(await hub.logged()) == 2


async def test_of_the_quarantine_only_what_got_well_by_itself_leaves(hub: Old) -> None:
    places = []
    for _ in range(3):
        await hub.bring(envelope(new_id(), "future.kind"))
        row = (await hub.rows(tables.quarantine, "log_id"))[-1]
        places.append(Place(row.log_id, row.seq))
    verdict = Verdict(actor="a1", by="Admin Li", why="a test")

    def decided(db: Connection) -> None:
        hub.page(db, NOW_MS).keep_pseudonym_key()
        hub.quarantine.dismiss(db, places[0], verdict, NOW_MS)
        well = tables.quarantine.update().where(tables.quarantine.c.log_id == places[1].log_id)
        db.execute(well.values(state=tables.RELEASED))

    await hub.database.write(decided)
    await hub.back_up()
    assert await hub.retain() == Removed(runs=1, held=1)
    left = await hub.rows(tables.quarantine, "log_id")
    assert [(row.log_id, row.state) for row in left] == [
        (places[0].log_id, tables.DISMISSED),
        (places[2].log_id, tables.HELD),
    ]
    shown = await hub.database.write(
        lambda db: hub.quarantine.show(hub.page(db, NOW_MS), places[0], "a1")
    )
    assert (shown.decided_by, shown.why) == ("Admin Li", "a test")


async def test_notices_leave_when_they_are_old(hub: Old) -> None:
    for at in (NOW_MS, LATER_MS - 10 * DAY_MS):
        await hub.database.write(lambda db, at=at: tell(db, at, "forked", None, "x"))  # type: ignore[misc]
    assert await Retention(hub.database, 0, 183).once(LATER_MS) == Removed(notices=1)
    assert [row.at_ms for row in await hub.rows(tables.notice)] == [LATER_MS - 10 * DAY_MS]


@pytest.mark.parametrize("key", ["retention_log_days", "retention_notices_days"])
def test_less_than_half_a_year_is_refused(tmp_path: Path, key: str) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(f"{key} = 182\n")
    with pytest.raises(ConfigError, match="at least 183 days"):
        config.load(file, Settings)


async def test_the_hub_removes_what_is_due_and_notes_it(tmp_path: Path) -> None:
    """Once a day, and not while a backup is being made."""
    settings = Settings(state=str(tmp_path), retention_log_days=183)
    async with RunningHub(settings) as running:
        stream = UpStream.of(notes(2))

        def brought(db: Connection) -> None:
            intake = Intake(running.vault, lambda *_: True, safe_on_commit=True)
            intake.commit(db, [stream.frame(1, 2)], running.now_ms() - 184 * DAY_MS)

        await running.database.write(brought)
        await running.projection.carry_out(running.projection._step)
        await running.database.write(
            lambda db: note_run(db, BACKUP, NOW_MS, "x", 0, snapshot(db).applied)
        )
        async with running.backups._alone:
            assert await running.upkeep.once()
        assert (await running.database.read(snapshot)).rows == 1
        assert await running.upkeep.once()
        assert (await running.database.read(snapshot)).rows == 0
        trail = await running.consult(lambda sheets: sheets.audit_trail(HUB_LOG))
        entry = trail[-1].entry
        assert entry is not None
        assert (entry.action, entry.subject) == ("remove", "log/retention")


# -- what comes again


async def known_again(hub: Old, stream: UpStream) -> None:
    """The same frames, and those of a card that was lost and came back as another epoch."""
    before, count = await hub.applied(), len(stream.entries)
    await hub.take(stream, 1, count)
    assert await hub.step() == Step(0, 0, 0, frozenset())  # the mark knows all of it
    await hub.take(UpStream(stream.entries, name=stream.key.stream), 1, count)
    await hub.step()
    assert await hub.applied() == before
    assert [row.seq for row in await hub.rows(tables.record, "seq")] == list(range(1, count + 1))


async def test_what_left_and_comes_again_is_applied_no_second_time(hub: Old) -> None:
    stream = await hub.bring(*(each.entry for each in notes(4)))
    await hub.back_up()
    assert (await hub.retain()).runs == 1
    await known_again(hub, stream)
    stream.write(2)
    await hub.take(stream, 5, 6)
    assert (await hub.step()).applied == 2


async def test_a_hub_that_was_restored_after_rows_left_knows_them(
    hub: Old, tmp_path: Path, address: str, request: pytest.FixtureRequest, keys: FileKeys
) -> None:
    """And its audit log is whole, and its months are there."""
    for number in range(3):
        await hub.database.write(
            lambda db, n=number: hub.page(db, NOW_MS).audit("a1", "read", f"quarantine/{n}")  # type: ignore[misc]
        )
    stream = await hub.bring(*(each.entry for each in notes(4)))
    person = await hub.bring(note().entry, name=PEOPLE)
    await hub.back_up()
    assert (await hub.retain()).runs == 1
    file = tmp_path / "copy"
    dump(hub.database.engine, address, file)
    url = await back_in_place(hub, file, address, request)
    async with Database(url) as database:
        vault = Vault(keys, database)
        restored = Old(database, vault, Outbox(vault))
        assert await restored.logged() == [PEOPLE]
        await restored.take(person, 1, 1)
        await restored.take(stream, 1, 4)
        assert (await restored.step()).rows == 0
        found = await database.read(lambda db: audited(restored.page(db, NOW_MS)))
        assert found == 3
        if database.backend == "postgresql":
            assert "log_2027_01_kept" in await database.read(months_there)


async def back_in_place(hub: Old, file: Path, address: str, request: pytest.FixtureRequest) -> str:
    if hub.database.backend == "sqlite":
        url = f"{address}.restored"
        load(url, file)
        return url
    hub.database.engine.dispose()
    postgres: Postgres = request.getfixturevalue("postgres")
    postgres.empty()
    load(address, file)
    return address


def audited(page: HubPage) -> int:
    """Rows of the hub's log; all of it must be as it was written."""
    verdict = page.audit_verify(HUB_LOG)
    assert verdict.finding is None
    return verdict.rows
