"""Opinions onto paper: a real journal, a real CUPS, a real IPP printer."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pypdf
import pytest

from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_edge.opinions.keeper import Opinions
from lianzhen_edge.printing.cups import Queue
from lianzhen_edge.printing.jobs import JobStage, NotNow, PrintJob
from lianzhen_edge.printing.printing import NoPrinter, NotPrintable, Printing
from lianzhen_edge.settings import Settings
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.identity import NodeId, uuid7
from lianzhen_protocol.opinion_sheets import Opinion, arrive
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.web.once import Act
from printers import QUEUE, Cups, Printer
from support.lab_fixtures import needs_tool
from support.signers import TestCa, document, key_of, signed

pytestmark = [needs_tool("cupsd"), needs_tool("ippeveprinter"), needs_tool("dbus-daemon")]
CA, KEY = TestCa(), key_of(3)
CERTIFICATE = CA.certificate(KEY)
NURSE = Actor(id="1" * 32, login="nurse", name="护士甲", roles=frozenset({Role.NURSE}))
PATIENCE = 20.0


@pytest.fixture(scope="module")
def printer() -> Iterator[Printer]:
    with Printer() as made:
        yield made.start()


@pytest.fixture(scope="module")
def cups(printer: Printer) -> Iterator[Cups]:
    with Cups() as made:
        made.start().add(printer)
        yield made


class Ward:
    """What a box has that matters here, opened anew as often as a test likes."""

    def __init__(self, folder: Path, cups: Cups, queue: str = QUEUE) -> None:
        self.folder = folder
        self.settings = Settings(print_server=cups.url, print_queue=queue)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Journal, Printing]]:
        journal = await Journal.open(
            self.folder / "journal.db",
            NodeId("n0123456789ab"),
            FileKeys(self.folder / "keys"),
            now_ms,
            meanings=MEANINGS,
        )
        opinions = Opinions(lambda: journal, lambda: CA.pem, now_ms)
        printing = Printing(self.settings, lambda: journal, opinions, now_ms)
        async with asyncio.TaskGroup() as tasks:
            service = tasks.create_task(printing.run())
            try:
                yield journal, printing
            finally:
                service.cancel()
                await asyncio.wait([service])
                await journal.close()


@pytest.fixture
def ward(tmp_path: Path, cups: Cups) -> Ward:
    return Ward(tmp_path, cups)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_id() -> str:
    return uuid7(now_ms(), secrets.token_bytes(10)).hex()


async def with_opinion(journal: Journal) -> Opinion:
    found = signed(KEY, CERTIFICATE, document(CERTIFICATE, id=new_id()))
    return await journal.transact(lambda book: arrive(book, found, book.now_ms))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - it is another program that we wait for
            await asyncio.sleep(0.05)


def job_in(journal: Journal, identity: str) -> PrintJob:
    found = journal.sheets.get(PrintJob, identity)
    assert found is not None
    return found


async def ended(journal: Journal, identity: str, stage: JobStage) -> PrintJob:
    await until(lambda: job_in(journal, identity).stage is stage)
    return job_in(journal, identity)


def texts(printed: bytes) -> str:
    return "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(printed)).pages)


async def test_what_was_signed_lies_in_the_tray(ward: Ward, printer: Printer) -> None:
    before = len(printer.printed())
    async with ward.opened() as (journal, printing):
        opinion = await with_opinion(journal)
        job = await printing.ask(opinion, "A4", NURSE, None, Act("a form"))
        assert job.stage is JobStage.WAITING
        again = await printing.ask(opinion, "A4", NURSE, None, Act("a form"))  # a double click
        assert again.id == job.id
        done = await ended(journal, job.id, JobStage.PRINTED)
        assert (done.pdf, done.error, done.attempt) == (b"", "", 1)
        assert await printing.ask(opinion, "A4", NURSE, job.id) == done  # the same wish
    (sheet,) = printer.printed()[before:]
    said = opinion.document
    assert said.patient.name in texts(sheet)
    assert said.conclusion in texts(sheet)
    name = said.patient.name.encode()
    stored = [path.read_bytes() for path in ward.folder.rglob("*") if path.is_file()]
    assert not any(name in content or b"%PDF" in content for content in stored)


async def test_no_paper_is_said_and_the_job_goes_on_when_there_is_some(
    ward: Ward, printer: Printer
) -> None:
    before = len(printer.printed())
    printer.take_paper()
    async with ward.opened() as (journal, printing):
        job = await printing.ask(await with_opinion(journal), "A4", NURSE, new_id())
        try:
            await until(lambda: job_in(journal, job.id).reasons == ("media-empty",))
            assert job_in(journal, job.id).stage is JobStage.GIVEN
            assert len(printer.printed()) == before
        finally:
            printer.put_paper()
        done = await ended(journal, job.id, JobStage.PRINTED)
        assert done.reasons == ()
    assert len(printer.printed()) == before + 1


async def test_a_job_survives_a_restart_and_is_printed_once(ward: Ward, printer: Printer) -> None:
    before = len(printer.printed())
    printer.take_paper()
    try:
        async with ward.opened() as (journal, printing):
            job = await printing.ask(await with_opinion(journal), "A4", NURSE, new_id())
            await until(lambda: job_in(journal, job.id).stage is JobStage.GIVEN)
            # as if the power had failed before the print server's answer was written down
            await journal.transact(lambda book: book.put(job))
    finally:
        printer.put_paper()
    async with ward.opened() as (journal, _):
        await ended(journal, job.id, JobStage.PRINTED)
    assert len(printer.printed()) == before + 1


async def test_a_job_that_was_opened_and_got_nothing_gets_its_document(
    ward: Ward, printer: Printer, cups: Cups
) -> None:
    before = len(printer.printed())
    async with ward.opened() as (journal, printing):
        identity = new_id()
        number = await Queue(cups.url, QUEUE).create(f"lz-{identity}-1", "A4")
        await printing.ask(await with_opinion(journal), "A4", NURSE, identity)
        done = await ended(journal, identity, JobStage.PRINTED)
        assert done.number == number
    assert len(printer.printed()) == before + 1


async def test_a_cancelled_job_is_printed_when_a_person_asks_again(
    ward: Ward, printer: Printer, cups: Cups
) -> None:
    before = len(printer.printed())
    cups.pause()
    async with ward.opened() as (journal, printing):
        opinion = await with_opinion(journal)
        told = f"opinion/{opinion.id}"
        try:
            job = await printing.ask(opinion, "A4", NURSE, new_id())
            await until(lambda: "paused" in job_in(journal, job.id).reasons)
            await printing.cancel(job.id)
            await ended(journal, job.id, JobStage.CANCELLED)
        finally:
            cups.go_on()
        await printing.again(job.id, NURSE)
        done = await ended(journal, job.id, JobStage.PRINTED)
        assert done.attempt == 2
        with pytest.raises(NotNow):
            await printing.again(job.id, NURSE)
        with pytest.raises(NotNow):
            await printing.cancel(job.id)
        trail = [row.entry for row in journal.sheets.audit_trail(journal.node) if row.entry]
        noted = [(entry.actor, entry.action) for entry in trail if entry.subject == told]
        assert noted == [(NURSE.id, "print")] * 2
    assert len(printer.printed()) == before + 1


async def test_a_print_server_that_is_away_is_said_and_waited_for(
    ward: Ward, printer: Printer
) -> None:
    with Cups() as away:
        ward.settings = Settings(print_server=away.url, print_queue=QUEUE)
        async with ward.opened() as (journal, printing):
            job = await printing.ask(await with_opinion(journal), "A4", NURSE, new_id())
            await until(lambda: job_in(journal, job.id).error == "print-server-silent")
            assert printing.printer is None
            away.start().add(printer)
            # whatever was asked before the queue was there has failed, and a person tries again
            await until(lambda: job_in(journal, job.id).error != "print-server-silent")
            if job_in(journal, job.id).stage is JobStage.FAILED:
                await printing.again(job.id, NURSE)
            await ended(journal, job.id, JobStage.PRINTED)


async def test_what_cannot_be_printed_says_why(ward: Ward, cups: Cups) -> None:
    async with ward.opened() as (journal, printing):
        opinion = await with_opinion(journal)
        small = await printing.ask(opinion, "A5", NURSE, new_id())
        assert (await ended(journal, small.id, JobStage.FAILED)).error == "print-paper"
        foreign = await journal.transact(
            lambda book: arrive(
                book,
                signed(KEY, other := TestCa(8).certificate(KEY), document(other, id=new_id())),
                book.now_ms,
            )
        )
        with pytest.raises(NotPrintable):
            await printing.ask(foreign, "A4", NURSE, new_id())
    async with Ward(ward.folder, cups, "no-such-queue").opened() as (journal, printing):
        lost = await printing.ask(opinion, "A4", NURSE, new_id())
        assert (await ended(journal, lost.id, JobStage.FAILED)).error == "print-refused"
    async with Ward(ward.folder, cups, "").opened() as (_, printing):
        assert not printing.ready
        with pytest.raises(NoPrinter):
            await printing.ask(opinion, "A4", NURSE, new_id())
