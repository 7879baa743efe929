"""A box's own log: rows in the commit of what they are about, and harm that is named by row."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lianzhen_edge import auditing, cli
from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol import kinds, records
from lianzhen_protocol.audit import HUB_LOG, MAX_APART, AuditHead, AuditRows, Fault, Head
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.settlement import Coverage
from lianzhen_runtime.keys import FileKeys
from unit.audit.harm import HARMS, ROWS

NODE = NodeId("n0123456789ab")
NOW_MS = 1_795_500_000_000
PATIENT = "ab" * 16


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    keys = FileKeys(tmp_path / "keys")
    made = await Journal.open(
        tmp_path / "journal.db", NODE, keys, lambda: NOW_MS, meanings=MEANINGS
    )
    yield made
    await made.close()


async def fill(journal: Journal, count: int = ROWS) -> None:
    def work(book: Book) -> None:
        for number in range(count):
            book.audit(f"actor-{number % 3}", "read", f"patient/{PATIENT}")

    await journal.transact(work)


@pytest.mark.parametrize("name", HARMS)
async def test_harm_by_sql_is_named(journal: Journal, tmp_path: Path, name: str) -> None:
    await fill(journal)
    assert journal.sheets.audit_verify(NODE).finding is None
    harm = HARMS[name]
    with sqlite3.connect(tmp_path / "journal.db") as db:
        for statement in harm.sql:
            assert db.execute(statement.format(table="audit", mine="")).rowcount > 0
    found = journal.sheets.audit_verify(NODE).finding
    assert found is not None
    assert (found.fault, found.seq) == (harm.fault, harm.seq)
    assert f"row {harm.seq}" in found.sentence


async def test_a_cut_that_also_moves_the_end_is_found_by_what_was_told(
    journal: Journal, tmp_path: Path
) -> None:
    await fill(journal)
    await journal.transact(auditing.tell)
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("DELETE FROM audit WHERE seq > 6")
        db.execute("UPDATE audit_end SET seq = 6, hash = (SELECT hash FROM audit WHERE seq = 6)")
    found = journal.sheets.audit_verify(NODE).finding
    assert found is not None
    assert (found.fault, found.seq) == (Fault.TRUNCATED, 7)


def files(folder: Path) -> list[Path]:
    return list(folder.glob("journal.db*"))


async def test_who_and_whose_lie_sealed(journal: Journal, tmp_path: Path) -> None:
    await fill(journal)
    written = b"".join(file.read_bytes() for file in files(tmp_path))
    assert len(written) > 1000
    assert PATIENT.encode() not in written
    assert b"actor-" not in written


async def test_a_row_is_found_by_whose_data_it_is_about(journal: Journal) -> None:
    sheet = Coverage(
        patient_id=PATIENT, region="r", insurance="i", account_fen=0, active=True, stated_ms=0
    )

    def work(book: Book) -> None:
        book.put(sheet)
        book.audit("a", "read", f"coverage/{PATIENT}")  # a sheet: its owner is meant
        book.audit("b", "change", PATIENT)
        book.audit("c", "read", "patient/somebody-else")
        book.audit("d", "read", "coverage/unknown")

    await journal.transact(work)
    found = journal.sheets.audit_of(PATIENT, 10)
    assert [(log, row.seq) for log, row in found] == [(NODE, 2), (NODE, 1)]
    assert [row.seq for row in journal.sheets.audit_newest(NODE, 3)] == [4, 3, 2]


async def test_a_word_that_no_log_knows_undoes_the_work(journal: Journal) -> None:
    def work(book: Book) -> None:
        book.audit("a", "read", PATIENT)
        book.audit("a", "peeked", PATIENT)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="peeked"):
        await journal.transact(work)
    assert journal.sheets.audit_trail(NODE) == []


async def test_rows_go_up_once_and_never_too_many_in_one_record(journal: Journal) -> None:
    await fill(journal, 2 * MAX_APART + 3)
    assert await journal.transact(auditing.tell) == 3
    assert await journal.transact(auditing.tell) == 0
    await fill(journal, 1)
    assert await journal.transact(auditing.tell) == 1
    bodies = [kinds.open_body(records.decode(entry)) for entry in told(journal)]
    assert all(isinstance(body, AuditRows) for body in bodies)
    seqs = [row.seq for body in bodies if isinstance(body, AuditRows) for row in body.rows]
    assert seqs == list(range(1, 2 * MAX_APART + 5))


def told(journal: Journal) -> tuple[bytes, ...]:
    found = journal.read("record.audit", 1, 100, 1 << 20)
    return found.records


async def test_the_hubs_head_is_kept(journal: Journal) -> None:
    said = AuditHead(log=HUB_LOG, seq=5, hash=bytes(32), told_ms=NOW_MS)
    await journal.transact(lambda book: auditing.hub_told(book, None, said))
    assert journal.sheets.audit_heads(HUB_LOG) == [Head(5, bytes(32), NOW_MS)]
    assert journal.sheets.audit_logs() == [HUB_LOG]


async def test_the_verb_names_the_row_of_a_stopped_box(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(journal)
    verb = ["--state", str(tmp_path), "audit", "verify"]
    assert cli.run(verb) == 0
    assert f"whole   log {NODE}: 8 rows" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("DELETE FROM audit WHERE seq = 8")
    assert cli.run(verb) == 1
    assert f"log {NODE} truncated: row 8" in capsys.readouterr().out
    assert cli.run(["--state", str(tmp_path / "none"), "audit", "verify"]) == 1
    assert "there is no journal" in capsys.readouterr().err
