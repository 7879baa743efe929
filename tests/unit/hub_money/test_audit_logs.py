"""The hub's log and its copy of a box's, on both databases: harm by SQL is named by its row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from sqlalchemy import Connection, text

from lianzhen_hub import cli
from lianzhen_hub.audit import meanings, notary
from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.page import HubPage
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database, sqlite_url
from lianzhen_protocol import audit
from lianzhen_protocol.audit import (
    HUB_LOG,
    AuditHead,
    AuditRows,
    Entry,
    Fault,
    Finding,
    Head,
    Row,
)
from lianzhen_protocol.records import Record
from lianzhen_runtime.keys import FileKeys
from unit.audit.harm import HARMS, ROWS
from unit.hub_ingest.box import NODE, NOW_MS

PATIENT = "ab" * 16
T = TypeVar("T")


class Hub:
    """A database and pages on it."""

    def __init__(self, database: Database, vault: Vault, outbox: Outbox) -> None:
        self.database, self._vault, self._outbox = database, vault, outbox

    def page(self, db: Connection, node: str = "") -> HubPage:
        return HubPage(db, self._vault, self._outbox, NOW_MS, node)

    async def do(self, work: Callable[[HubPage], T], node: str = "") -> T:
        return await self.database.write(lambda db: work(self.page(db, node)))

    async def told(self, rows: list[Row]) -> None:
        """A box tells rows of its log."""
        record = Record(bytes(16), "audit.rows", 1, 0, NOW_MS, b"")
        await self.do(lambda page: meanings.rows(page, record, AuditRows(rows=tuple(rows))), NODE)

    async def finding(self, log: str) -> Finding | None:
        return (await self.do(lambda page: page.audit_verify(log))).finding

    async def harm(self, table: str, mine: str, statements: tuple[str, ...]) -> None:
        def work(db: Connection) -> None:
            for statement in statements:
                assert db.execute(text(statement.format(table=table, mine=mine))).rowcount > 0

        await self.database.write(work)

    async def notices(self) -> list[str]:
        return await self.do(
            lambda page: [row.code for row in page.connection.execute(tables.notice.select())]
        )


@pytest.fixture
async def hub(database: Database, vault: Vault, outbox: Outbox) -> Hub:
    made = Hub(database, vault, outbox)
    await made.do(lambda page: page.keep_pseudonym_key())
    return made


def chain(count: int, salt: int = 0) -> list[Row]:
    """A box's log."""
    rows: list[Row] = []
    before = audit.genesis(NODE)
    for seq in range(1, count + 1):
        entry = Entry(
            seq, f"actor-{seq}", "read", f"patient/{PATIENT}", PATIENT, bytes([salt]) * 16
        )
        before = audit.extend(before, seq, entry)
        rows.append(Row(seq, entry, before))
    return rows


def fill(page: HubPage) -> None:
    for number in range(ROWS):
        page.audit(f"actor-{number}", "read", f"patient/{PATIENT}")


@pytest.mark.parametrize("name", HARMS)
async def test_harm_to_the_hubs_own_log_is_named(hub: Hub, name: str) -> None:
    await hub.do(fill)
    assert await hub.finding(HUB_LOG) is None
    await hub.harm("audit", "", HARMS[name].sql)
    found = await hub.finding(HUB_LOG)
    assert found is not None
    assert (found.fault, found.seq) == (HARMS[name].fault, HARMS[name].seq)


@pytest.mark.parametrize("name", HARMS)
async def test_harm_to_the_copy_of_a_boxs_log_is_named(hub: Hub, name: str) -> None:
    await hub.told(chain(ROWS)[:5])
    await hub.told(chain(ROWS)[5:])
    assert await hub.finding(NODE) is None
    await hub.harm("box_audit", f"AND node = '{NODE}'", HARMS[name].sql)
    found = await hub.finding(NODE)
    assert found is not None
    assert (found.fault, found.seq) == (HARMS[name].fault, HARMS[name].seq)


async def test_rows_that_are_told_again_change_nothing(hub: Hub) -> None:
    await hub.told(chain(6))
    await hub.told(chain(6)[2:])
    await hub.told(chain(8)[4:])
    verdict = await hub.do(lambda page: page.audit_verify(NODE))
    assert (verdict.rows, verdict.head.seq, verdict.finding) == (8, 8, None)
    assert await hub.notices() == []


async def test_a_box_that_tells_another_history_is_found_and_the_first_one_stays(hub: Hub) -> None:
    """Its card was restored, or somebody wrote its log anew, or cut it and went on."""
    await hub.told(chain(6))
    await hub.told(chain(9, salt=1)[3:])
    found = await hub.finding(NODE)
    assert found is not None
    assert (found.fault, found.seq) == (Fault.REWRITTEN, 1)
    assert "at the latest from row 4" in found.sentence
    assert await hub.notices() == ["audit-differs"]
    trail = await hub.do(lambda page: page.audit_trail(NODE, limit=6))
    assert trail == chain(6)


async def test_a_box_that_leaves_rows_out_is_found(hub: Hub) -> None:
    await hub.told(chain(3))
    await hub.told(chain(9)[5:])
    found = await hub.finding(NODE)
    assert found is not None
    assert (found.fault, found.seq) == (Fault.MISSING, 4)
    assert await hub.notices() == ["audit-differs"]


async def test_who_saw_my_data_is_answered_over_all_logs(hub: Hub) -> None:
    await hub.told(chain(2))
    await hub.do(lambda page: page.audit("expert-1", "sign", f"patient/{PATIENT}"))
    await hub.do(lambda page: page.audit("expert-1", "read", "patient/other"))
    found = await hub.do(lambda page: page.audit_of(PATIENT, 10))
    said = [(log, row.entry.actor) for log, row in found if row.entry]
    assert said == [(HUB_LOG, "expert-1"), (NODE, "actor-2"), (NODE, "actor-1")]
    assert await hub.do(lambda page: page.audit_logs()) == [HUB_LOG, NODE]


# -- the verb, on the files of a hub that does not run


class Stopped:
    """The state folder of a hub, on SQLite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = Database(sqlite_url(folder / "hub.db"))
        self.vault = Vault(FileKeys(folder / "keys"), self.db)

    def sql(self, statement: str) -> None:
        self.db.write_here(lambda db: db.execute(text(statement)))

    def head(self) -> Head:
        return self.db.write_here(lambda db: self.page(db).audit_end(HUB_LOG))

    def page(self, db: Connection) -> HubPage:
        return HubPage(db, self.vault, Outbox(self.vault), NOW_MS)


@pytest.fixture
async def stopped(tmp_path: Path) -> Stopped:
    made = Stopped(tmp_path)
    async with made.db:
        await made.db.write(lambda db: made.page(db).keep_pseudonym_key())
        await made.db.write(lambda db: fill(made.page(db)))
    head = made.head()
    notary.add_head(
        tmp_path / notary.FILE,
        AuditHead(log=HUB_LOG, seq=head.seq, hash=head.hash, told_ms=NOW_MS),
    )
    return made


def verb(stopped: Stopped, *more: str) -> int:
    return cli.run(["--state", str(stopped.folder), "audit", "verify", *more])


def test_the_verb_says_whole_and_gives_the_head(
    stopped: Stopped, capsys: pytest.CaptureFixture[str]
) -> None:
    head = stopped.head()
    assert verb(stopped) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("whole   log hub: 8 rows, 2 heads agree")
    assert f"{head.seq}:{head.hash.hex()}" in printed
    assert verb(stopped, "--head", f"{head.seq}:{head.hash.hex()}", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["finding"] is None


def test_the_verb_names_the_row_and_exits_with_1(
    stopped: Stopped, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped.sql("DELETE FROM audit WHERE seq = 4")
    assert verb(stopped) == 1
    assert "BROKEN  row 4 of log hub missing" in capsys.readouterr().out


def test_a_cut_with_the_end_moved_is_found_by_the_file_and_by_a_head_on_paper(
    stopped: Stopped, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = stopped.head()
    stopped.sql("DELETE FROM audit WHERE seq > 6")
    stopped.sql("DELETE FROM audit_head")
    stopped.sql("UPDATE audit_end SET seq = 6, hash = (SELECT hash FROM audit WHERE seq = 6)")
    assert verb(stopped) == 1
    assert "log hub truncated: row 7" in capsys.readouterr().out
    (stopped.folder / notary.FILE).unlink()
    assert verb(stopped) == 0  # nothing on this machine knows better
    assert verb(stopped, "--head", f"{kept.seq}:{kept.hash.hex()}") == 1


def test_what_the_verb_cannot_read_is_one_sentence(
    tmp_path: Path, stopped: Stopped, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    assert cli.run(["--state", str(empty), "audit", "verify"]) == 1
    assert not empty.exists()  # and it makes nothing
    assert verb(stopped, "--head", "eight") == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_the_file_of_heads_keeps_the_newest(tmp_path: Path) -> None:
    for seq in range(1, notary.KEPT + 3):
        if seq in (1, 2) or seq > notary.KEPT - 1:
            notary.add_head(
                tmp_path / "f", AuditHead(log=HUB_LOG, seq=seq, hash=bytes(32), told_ms=1)
            )
    kept = notary.heads_in(tmp_path / "f", HUB_LOG)
    assert kept[-1].seq == notary.KEPT + 2
    assert notary.heads_in(tmp_path / "f", "other") == []
    assert msgspec.json.decode((tmp_path / "f").read_bytes().splitlines()[0])["seq"] == 1
