"""Carries print jobs to the printer and back comes what became of them; a restart loses none.

A job is given once: its name is unique, and before it is given the print server is asked for
that name. It is opened empty, then gets its document, so an answer that was lost leaves either an
empty job, which gets its document now, or the job itself.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.opinions.keeper import Opinions
from lianzhen_edge.settings import Settings
from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.opinion_sheets import Opinion
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.log import Log
from lianzhen_runtime.web.once import Act

from . import jobs, report
from .cups import ENDED, MEDIA, Job, JobState, NoPrintServer, PrinterState, Queue
from .faces import Faces
from .ipp import IppError
from .jobs import OPEN, JobStage, PrintJob

_POLL_SECONDS: Final = 1.0
_log = Log("lianzhen.printing")


class NoPrinter(LianzhenError):
    """No queue is configured."""

    code = "print-not-set-up"
    http_status = 409


class NotPrintable(LianzhenError):
    """An opinion that did not pass verification is not printed."""

    code = "opinion-refused"
    http_status = 409


class Printing:
    """The box's one queue. ``run`` is a service; the rest is asked by pages."""

    def __init__(
        self,
        settings: Settings,
        journal: Callable[[], Journal],
        opinions: Opinions,
        now_ms: Callable[[], int],
    ) -> None:
        self._queue: Queue | None = None
        if settings.print_queue:
            self._queue = Queue(settings.print_server, settings.print_queue)
        self.paper: str = settings.print_paper
        self._faces = Faces([Path(path) for path in settings.fonts])
        self._journal = journal
        self._opinions = opinions
        self._now_ms = now_ms
        self._wake = asyncio.Event()
        self.printer: PrinterState | None = None
        """As last heard; None while nobody answered."""

    @property
    def ready(self) -> bool:
        """Whether there is a queue to print to."""
        return self._queue is not None

    # -- what a person asks

    async def pdf(self, opinion: Opinion, paper: str | None = None) -> bytes:
        """The opinion on paper, verified now. NotPrintable if it does not stand; NoGlyph."""
        verdict = self._opinions.verdict(opinion)
        if not verdict.stands:
            raise NotPrintable(f"this opinion is not printed: {verdict.why}")
        made = report.Paper(opinion.signed, verdict, self._now_ms(), opinion.amended_by or "")
        return await asyncio.to_thread(report.pdf, made, self._faces, paper or self.paper)

    async def ask(
        self,
        opinion: Opinion,
        paper: str,
        actor: Actor,
        identity: str | None = None,
        act: Act | None = None,
    ) -> PrintJob:
        """Have it printed; durable when this returns. The same ``identity`` is the same job, and
        the same ``act``."""
        if self._queue is None:
            raise NoPrinter("no printer is set up; name its queue in the setting 'print_queue'")
        pdf = await self.pdf(opinion, paper)

        def work(book: Book) -> str:
            made = identity or book.new_id()
            job = book.get(PrintJob, made)
            if job is None:
                job = jobs.new_job(made, opinion.id, paper, pdf, actor.name, book.now_ms)
                book.put(job)
                book.audit(actor.id, "print", f"opinion/{opinion.id}")
            return made

        found = await (act or Act()).do(self._journal().transact, work, str)
        self._wake.set()
        return jobs.job_of(self._journal().sheets, found)

    async def again(self, identity: str, actor: Actor, act: Act | None = None) -> None:
        """Try once more. NoSuchJob, NotNow."""

        def work(book: Book) -> None:
            job = jobs.again(jobs.job_of(book, identity))
            book.put(job)
            book.audit(actor.id, "print", f"opinion/{job.opinion}")

        await (act or Act()).do(self._journal().transact, work, type(None))
        self._wake.set()

    async def cancel(self, identity: str) -> None:
        """End it. NoSuchJob, NotNow, IppError."""
        job = jobs.job_of(self._journal().sheets, identity)
        if job.stage not in OPEN:
            raise jobs.NotNow("it has ended already")
        found = await self._found(job)
        if found is not None and found.state not in ENDED:
            await self._printer_queue().cancel(found.number)
        elif found is None:
            await self._keep(job, msgspec.structs.replace(job, stage=JobStage.CANCELLED))
        self._wake.set()

    # -- the service

    async def run(self) -> None:
        """Keep every open job moving, for ever."""
        while True:
            self._wake.clear()
            found = self._open()
            if self._queue is not None and found:
                await self._look()
                for job in found:
                    await self._keep(job, await self._moved(job))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS if self._open() else None):
                    await self._wake.wait()

    def _open(self) -> list[PrintJob]:
        sheets = self._journal().sheets
        return [job for stage in OPEN for job in sheets.find(PrintJob, state=stage)]

    async def _moved(self, job: PrintJob) -> PrintJob:
        """The job a step further, or why it is not."""
        queue = self._printer_queue()
        try:
            if job.stage is JobStage.WAITING:
                return await self._give(job)
            found = await queue.job(job.number) if job.number else await queue.find(job.name)
            return jobs.told(job, found, self._reasons(), self._now_ms())
        except NoPrintServer as error:
            return jobs.delayed(job, error.code, str(error))
        except IppError as error:
            return jobs.failed(job, error.code, str(error), self._now_ms())

    async def _give(self, job: PrintJob) -> PrintJob:
        queue = self._printer_queue()
        found = await queue.find(job.name)
        if found is None:
            if self.printer and self.printer.media and MEDIA[job.paper] not in self.printer.media:
                detail = f"the printer does not take {job.paper}"
                return jobs.failed(job, "print-paper", detail, self._now_ms())
            number = await queue.create(job.name, job.paper)
            await queue.send(number, job.pdf)
        elif _empty(found):
            await queue.send(found.number, job.pdf)
        return jobs.told(job, await queue.find(job.name), self._reasons(), self._now_ms())

    async def _look(self) -> None:
        try:
            self.printer = await self._printer_queue().printer()
            _log.transition("print server", "answers")
        except IppError as error:
            self.printer = None
            _log.transition("print server", "fails", bad=True, code=error.code)

    async def _found(self, job: PrintJob) -> Job | None:
        return await self._printer_queue().find(job.name)

    async def _keep(self, before: PrintJob, after: PrintJob) -> None:
        if after == before:
            return
        await self._journal().transact(partial(_put_unless_moved, before=before, after=after))
        if after.stage is not before.stage:
            _log.info("print job", status=after.stage, attempt=after.attempt, code=after.error)

    def _reasons(self) -> tuple[str, ...]:
        return self.printer.reasons if self.printer else ()

    def _printer_queue(self) -> Queue:
        if self._queue is None:
            raise NoPrinter("no printer is set up; name its queue in the setting 'print_queue'")
        return self._queue


def _put_unless_moved(book: Book, before: PrintJob, after: PrintJob) -> None:
    if book.get(PrintJob, before.id) == before:  # a person may have acted meanwhile
        book.put(after)


def _empty(job: Job) -> bool:
    """Opened, and its document did not come."""
    return job.state is JobState.HELD and "job-incoming" in job.reasons
