"""The clinic's pages of signed opinions and of the printer."""

from typing import TYPE_CHECKING, Literal

import msgspec
from aiohttp import web

from lianzhen_edge.printing.cups import PrinterState
from lianzhen_edge.printing.jobs import PrintJob, job_of
from lianzhen_edge.printing.report import code_of
from lianzhen_protocol.accounts import CLINICAL
from lianzhen_protocol.identity import record_id
from lianzhen_protocol.opinion import Document
from lianzhen_protocol.opinion_sheets import Opinion
from lianzhen_protocol.opinion_trust import Verdict
from lianzhen_runtime.web.errors import NoSuchThing, Unfit
from lianzhen_runtime.web.routes import QUIET, Routes, Visit

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

_SHOWN = 200


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What to print on. ``job``: an id of the caller's, so that a repeated request is one job."""

    paper: Literal["A4", "A5"] = "A4"
    job: str = ""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An opinion as it is read, judged at this moment."""

    id: str
    state: str
    document: Document
    verdict: Verdict
    amended_by: str | None
    arrived_ms: int
    code: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A print job as it is shown."""

    id: str
    opinion: str
    paper: str
    stage: str
    asked_by: str
    asked_ms: int
    attempt: int
    reasons: tuple[str, ...]
    error: str
    detail: str
    ended_ms: int


def routes(box: "Box") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(box)
    box.when_open(lambda journal: journal.on_change(lambda changed: _tell(box, changed)))
    found.entry("/opinions", "opinions.title", roles=CLINICAL, order=35)
    found.entry("/printing", "opinions.printing", roles=CLINICAL, order=60)
    found.get("/opinions", roles=CLINICAL)(pages.all)
    found.get("/patients/{id}/opinions", roles=CLINICAL)(pages.of_patient)
    found.get("/consultations/{id}/opinion", roles=CLINICAL)(pages.of_consultation)
    found.get("/opinions/{id}", roles=CLINICAL)(pages.one)
    found.get("/opinions/{id}/pdf", roles=CLINICAL)(pages.pdf)
    found.post("/opinions/{id}/print", roles=CLINICAL)(pages.ask)
    found.get("/printing", roles=CLINICAL)(pages.jobs)
    found.get("/printing/fragment", roles=CLINICAL)(pages.jobs_fragment)
    found.get("/printing/{id}", roles=CLINICAL)(pages.job)
    found.post("/printing/{id}/again", roles=CLINICAL)(pages.again)
    found.post("/printing/{id}/cancel", roles=CLINICAL)(pages.cancel)
    return found


def _tell(box: "Box", changed: set[tuple[str, str]]) -> None:
    kinds = {kind for kind, _ in changed}
    for kind, event in ((Opinion.SHEET, "opinion"), (PrintJob.SHEET, "printing")):
        if kind in kinds:
            box.live.tell(event, roles=frozenset(CLINICAL))


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box

    # -- opinions

    async def all(self, visit: Visit) -> web.StreamResponse:
        found = self._box.journal.sheets.find(Opinion, newest=True, limit=_SHOWN)
        return self._list(visit, found, "opinions/list.html")

    async def of_patient(self, visit: Visit) -> web.StreamResponse:
        found = self._box.journal.sheets.find(Opinion, owner=visit.match("id"), newest=True)
        part = "opinions/part.html" if QUIET in visit.request.headers else "opinions/list.html"
        return self._list(visit, found, part)

    async def of_consultation(self, visit: Visit) -> web.StreamResponse:
        """A part of the consultation's page."""
        sheets = self._box.journal.sheets
        found = sheets.find_token(Opinion, "consultation", visit.match("id"))
        return self._list(visit, found, "opinions/part.html")

    async def one(self, visit: Visit) -> web.StreamResponse:
        opinion = self._opinion(visit)
        jobs = self._box.journal.sheets.find(PrintJob, owner=opinion.id, newest=True)
        return visit.page(
            "opinions/one.html",
            opinion=self._shown(opinion),
            jobs=[_job(job) for job in jobs],
            paper=self._box.printing.paper,
            ready=self._box.printing.ready,
        )

    async def pdf(self, visit: Visit) -> web.StreamResponse:
        """The paper on the screen. NotPrintable, NoGlyph."""
        opinion = self._opinion(visit)
        made = await self._box.printing.pdf(opinion)
        actor, subject = visit.actor.id, f"opinion/{opinion.id}"
        await self._box.journal.transact(lambda book: book.audit(actor, "export", subject))
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=made, content_type="application/pdf", headers=headers)

    # -- the printer

    async def ask(self, visit: Visit) -> web.StreamResponse:
        wish, opinion = await visit.form(Wish), self._opinion(visit)
        try:
            identity = record_id(bytes.fromhex(wish.job)).hex() if wish.job else None
        except ValueError as error:
            raise Unfit("a job's id is 32 hexadecimal digits") from error
        act = await visit.act()
        job = await self._box.printing.ask(opinion, wish.paper, visit.actor, identity, act)
        return visit.see_other("/printing", id=job.id)

    async def jobs(self, visit: Visit) -> web.StreamResponse:
        return self._desk(visit, "opinions/printing.html")

    async def jobs_fragment(self, visit: Visit) -> web.StreamResponse:
        return self._desk(visit, "opinions/printing_fragment.html")

    async def job(self, visit: Visit) -> web.StreamResponse:
        found = job_of(self._box.journal.sheets, visit.match("id"))
        return visit.page("opinions/job.html", job=_job(found), printer=self._printer())

    async def again(self, visit: Visit) -> web.StreamResponse:
        job = visit.match("id")
        await self._box.printing.again(job, visit.actor, await visit.act())
        return visit.see_other("/printing", id=job)

    async def cancel(self, visit: Visit) -> web.StreamResponse:
        await self._box.printing.cancel(visit.match("id"))
        return visit.see_other("/printing")

    # -- inside

    def _list(self, visit: Visit, found: list[Opinion], template: str) -> web.StreamResponse:
        return visit.page(template, opinions=[self._shown(opinion) for opinion in found])

    def _desk(self, visit: Visit, template: str) -> web.StreamResponse:
        jobs = self._box.journal.sheets.find(PrintJob, newest=True, limit=_SHOWN)
        return visit.page(
            template,
            jobs=[_job(job) for job in jobs],
            ready=self._box.printing.ready,
            printer=self._printer(),
        )

    def _printer(self) -> PrinterState | None:
        return self._box.printing.printer

    def _opinion(self, visit: Visit) -> Opinion:
        found = self._box.journal.sheets.get(Opinion, visit.match("id"))
        if found is None:
            raise NoSuchThing("there is no such opinion at this clinic")
        return found

    def _shown(self, opinion: Opinion) -> Shown:
        return Shown(
            id=opinion.id,
            state=opinion.state,
            document=opinion.document,
            verdict=self._box.opinions.verdict(opinion),
            amended_by=opinion.amended_by,
            arrived_ms=opinion.arrived_ms,
            code=code_of(opinion.signed),
        )


def _job(job: PrintJob) -> Job:
    return Job(
        id=job.id,
        opinion=job.opinion,
        paper=job.paper,
        stage=job.stage,
        asked_by=job.asked_by,
        asked_ms=job.asked_ms,
        attempt=job.attempt,
        reasons=job.reasons,
        error=job.error,
        detail=job.detail,
        ended_ms=job.ended_ms,
    )
