"""The clinic's part of a patient's page about triage: see why, accept, override, ask again."""

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from aiohttp import web

from lianzhen_edge.triage.desk import NoSuchPatient, TriageDesk
from lianzhen_edge.triage.wiring import desk_of
from lianzhen_protocol.accounts import CLINICAL, Actor
from lianzhen_protocol.acuity import Level
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.identity import RecordId
from lianzhen_protocol.news2 import Scale
from lianzhen_protocol.people import Patient
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.triage import (
    MAX_WHY,
    Clinician,
    SpO2Scale,
    TriageSuggestion,
    Verdict,
    scale_of,
)
from lianzhen_runtime.web.routes import QUIET, Handler, Routes, Visit

if TYPE_CHECKING:
    from lianzhen_edge.box import Box
    from lianzhen_edge.journal.states import Item

HISTORY: Final = 50


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The form of both buttons."""

    verdict: Verdict
    level: Level
    why: Annotated[str, msgspec.Meta(max_length=4 * MAX_WHY)] = ""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The SpO2 scale, and why."""

    scale: Scale
    why: Annotated[str, msgspec.Meta(max_length=4 * MAX_WHY)] = ""


def routes(box: "Box") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(box)
    box.when_open(lambda journal: journal.on_change(lambda changed: _tell(box, changed)))
    found.get("/patients/{id}/triage", roles=CLINICAL)(pages.show)
    found.get("/patients/{id}/triage/summary", roles=CLINICAL)(pages.summary)
    found.post("/patients/{id}/triage", roles=CLINICAL)(pages.ask)
    found.post("/patients/{id}/triage/scale", roles=CLINICAL)(_spoken(pages.choose))
    found.post("/patients/{id}/triage/{suggestion}", roles=CLINICAL)(_spoken(pages.decide))
    return found


def _tell(box: "Box", changed: set[tuple[str, str]]) -> None:
    if any(kind in {TriageSuggestion.SHEET, SpO2Scale.SHEET} for kind, _ in changed):
        box.live.tell("triage", roles=frozenset(CLINICAL))


def _spoken(handler: Handler) -> Handler:
    """What cannot be decided is said to people in their words, with the way back."""

    async def handle(visit: Visit) -> web.StreamResponse:
        try:
            return await handler(visit)
        except RecordError as error:
            if visit.wants_json:
                raise
            back, word = f"/patients/{visit.match('id')}/triage", f"triage.error_{error.code}"
            return visit.page("triage/refused.html", status=422, wrong=visit.t(word), back=back)

    return handle


def _clinician(actor: Actor) -> Clinician:
    return Clinician(account=actor.id, name=actor.name)


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box

    @property
    def _desk(self) -> TriageDesk:
        return desk_of(self._box)

    async def show(self, visit: Visit) -> web.StreamResponse:
        """A part of a page for the page that asks by itself, else a page of its own."""
        quiet = QUIET in visit.request.headers
        return self._shown(visit, "triage/fragment.html" if quiet else "triage/page.html")

    async def summary(self, visit: Visit) -> web.StreamResponse:
        """A part of the patient's page: what to do."""
        return self._shown(visit, "triage/summary.html")

    def _shown(self, visit: Visit, page: str) -> web.Response:
        sheets = self._box.journal.sheets
        patient = _patient(sheets, visit.match("id"))
        found = sheets.find(TriageSuggestion, owner=patient.id, newest=True, limit=HISTORY)
        newest = found[0] if found else None
        decided = newest.decided if newest else None
        return visit.page(
            page,
            patient=patient,
            newest=newest,
            history=found[1:],
            levels=[int(level) for level in Level],
            scale=scale_of(sheets, patient.id),
            item=self._item(newest.suggested.suggestion_id if newest else ""),
            decision_item=self._item(decided.decision_id if decided else ""),
        )

    def _item(self, identity: str) -> "Item | None":
        return self._box.item(RecordId(bytes.fromhex(identity))) if identity else None

    async def ask(self, visit: Visit) -> web.StreamResponse:
        patient = visit.match("id")
        act = await visit.act()
        made = await self._desk.suggest(patient, _clinician(visit.actor), act)
        return visit.see_other(f"/patients/{patient}", id=made.suggestion_id, level=made.level)

    async def decide(self, visit: Visit) -> web.StreamResponse:
        patient, said = visit.match("id"), await visit.form(Decision)
        made = await self._desk.decide(
            visit.match("suggestion"),
            patient,
            said.verdict,
            said.level,
            _clinician(visit.actor),
            said.why,
            await visit.act(),
        )
        return visit.see_other(f"/patients/{patient}", id=made.decision_id)

    async def choose(self, visit: Visit) -> web.StreamResponse:
        patient, said = visit.match("id"), await visit.form(Chosen)
        act = await visit.act()
        await self._desk.set_scale(patient, said.scale, _clinician(visit.actor), said.why, act)
        return visit.see_other(f"/patients/{patient}", id=patient)


def _patient(sheets: Sheets, identity: str) -> Patient:
    found = sheets.get(Patient, identity)
    if found is None:
        raise NoSuchPatient("this clinic has no patient with that id")
    return found
