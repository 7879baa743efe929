"""The clinic's pages of consultations: ask, follow, cancel, read the opinion and confirm it."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from aiohttp import web

from lianzhen_edge.consultations import board, desk
from lianzhen_edge.consultations.completion import OpinionMissing, OpinionUnverified
from lianzhen_edge.journal.book import Book
from lianzhen_protocol.accounts import CLINICAL, Actor, Role
from lianzhen_protocol.consultation import (
    Cancelled,
    Consent,
    ConsentForm,
    Consultation,
    Drafted,
    Edited,
    Submitted,
)
from lianzhen_protocol.departments import DEPARTMENTS
from lianzhen_protocol.imaging import Study
from lianzhen_protocol.people import Patient
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.triage import accepted_level
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.web.refusals import spoken
from lianzhen_runtime.web.routes import Handler, Routes, Visit

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

CONSENT_TEXT: Final = "2026-11"
"""Version of the text in ``text/consultations.json`` that the patient agrees to."""

DOCTORS: Final = frozenset({Role.DOCTOR})
RELATIONS: Final = ("self", "spouse", "parent", "child", "guardian", "other")

_ID: Final = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")
"""A UUIDv7, as pages and programs make them."""

_Long = Annotated[str, msgspec.Meta(max_length=4000)]
_Short = Annotated[str, msgspec.Meta(max_length=128)]


class NoSuchPatient(LianzhenError):
    """This clinic has no patient with that id."""

    code = "patient-unknown"
    http_status = 404


class UnknownDepartment(LianzhenError):
    """A code that stands in no list."""

    code = "department-unknown"
    http_status = 422


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The form. ``ask`` is the button: without it, it stays a draft."""

    complaint: _Long = ""
    department: _Short = ""
    icd: _Short = ""
    studies: list[_Short] = []
    ask: bool = False
    once: str = ""
    """Made with the form; the consultation's id, where it begins a new one."""
    consent: bool = False
    consent_form: ConsentForm = ConsentForm.WRITTEN
    consent_given_by: _Short = ""
    consent_relation: _Short = "self"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request is taken back."""

    reason: _Long = ""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Which opinion the doctor has read."""

    opinion: _Short


class ConsentMissing(LianzhenError):
    """The box was not ticked: nobody outside sees anything without the patient's word."""

    code = "consent-missing"
    http_status = 422


def routes(box: "Box") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(box)
    box.when_open(lambda journal: journal.on_change(lambda changed: _tell(box, changed)))
    found.entry("/consultations", "consultations.title", roles=CLINICAL, order=30)
    found.get("/consultations", roles=CLINICAL)(pages.all)
    found.get("/consultations/fragment", roles=CLINICAL)(pages.all_fragment)
    found.get("/consultations/{id}", roles=CLINICAL)(pages.one)
    found.get("/consultations/{id}/fragment", roles=CLINICAL)(pages.one_fragment)
    found.post("/consultations/{id}", roles=CLINICAL)(_spoken(pages.save))
    found.post("/consultations/{id}/cancel", roles=DOCTORS)(_spoken(pages.cancel))
    found.post("/consultations/{id}/complete", roles=DOCTORS)(_spoken(pages.complete))
    found.get("/patients/{id}/consultations", roles=CLINICAL)(pages.of_patient)
    found.get("/patients/{id}/consultations/new", roles=CLINICAL)(pages.new)
    found.post("/patients/{id}/consultations", roles=CLINICAL)(_spoken(pages.make))
    return found


def _spoken(handler: Handler) -> Handler:
    errors = (desk.NotPossible, desk.NoSuchConsultation, ConsentMissing, UnknownDepartment)
    return spoken(handler, *errors, OpinionMissing, OpinionUnverified)


def _tell(box: "Box", changed: set[tuple[str, str]]) -> None:
    """Open pages look again, whoever changed it: a colleague, triage or the hub."""
    if any(kind == Consultation.SHEET for kind, _ in changed):
        box.live.tell("consultation", roles=frozenset(CLINICAL))


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box

    async def all(self, visit: Visit) -> web.StreamResponse:
        return self._board(visit, "consultations/list.html")

    async def all_fragment(self, visit: Visit) -> web.StreamResponse:
        return self._board(visit, "consultations/list_fragment.html")

    async def of_patient(self, visit: Visit) -> web.StreamResponse:
        """A part of the patient's page."""
        return self._board(visit, "consultations/list_fragment.html", visit.match("id"))

    def _board(self, visit: Visit, page: str, patient: str | None = None) -> web.Response:
        found = board.board(self._box.journal.sheets, self._box.item, patient)
        return visit.page(page, board=found, of=patient, departments=DEPARTMENTS)

    async def one(self, visit: Visit) -> web.StreamResponse:
        return self._shown(visit, "consultations/one.html")

    async def one_fragment(self, visit: Visit) -> web.StreamResponse:
        """What changes while the page is open."""
        return self._shown(visit, "consultations/one_fragment.html")

    def _shown(self, visit: Visit, page: str) -> web.Response:
        sheets = self._box.journal.sheets
        case = desk.known(sheets, visit.match("id"))
        return visit.page(
            page,
            case=case,
            own=board.own_events(case, self._box.item),
            opinions=visit.has("/consultations/{id}/opinion"),
            **self._form(sheets, visit, case.patient_id),
        )

    async def new(self, visit: Visit) -> web.StreamResponse:
        sheets = self._box.journal.sheets
        patient_id = visit.match("id")
        return visit.page(
            "consultations/new.html",
            case=desk.open_draft(sheets, patient_id),
            **self._form(sheets, visit, patient_id),
        )

    def _form(self, sheets: Sheets, visit: Visit, patient_id: str) -> dict[str, Any]:
        """What the form is made of."""
        decided = accepted_level(sheets, patient_id)
        return {
            "patient": _patient(sheets, patient_id),
            "studies": sheets.find(Study, owner=patient_id, newest=True),
            "level": int(decided.level) if decided else None,
            "departments": DEPARTMENTS,
            "relations": RELATIONS,
            "consent_text": CONSENT_TEXT,
            "may_ask": Role.DOCTOR in visit.actor.roles,
        }

    async def make(self, visit: Visit) -> web.StreamResponse:
        actor, patient_id, wanted = visit.actor, visit.match("id"), await visit.form(Request)
        begin = Drafted(node=self._box.journal.node, patient_id=patient_id)

        def work(book: Book) -> str:
            _patient(book, patient_id)
            case = _sent_before(book, patient_id, wanted.once)
            case = case or desk.open_draft(book, patient_id)
            case = case or desk.draft(book, desk.person_of(actor), begin, _as_id(wanted.once))
            _fill(book, actor, case, wanted)
            return case.id

        identity = await visit.once(self._box.journal.transact, work, str)
        return visit.see_other(f"/consultations/{identity}", id=identity)

    async def save(self, visit: Visit) -> web.StreamResponse:
        """Change a draft; a doctor asks with it."""
        actor, identity, wanted = visit.actor, visit.match("id"), await visit.form(Request)

        def work(book: Book) -> None:
            _fill(book, actor, desk.known(book, identity), wanted)

        await visit.once(self._box.journal.transact, work, type(None))
        return visit.see_other(f"/consultations/{identity}", id=identity)

    async def cancel(self, visit: Visit) -> web.StreamResponse:
        actor, identity = visit.actor, visit.match("id")
        what = Cancelled(reason=(await visit.form(Reason)).reason)
        await visit.once(
            self._box.journal.transact,
            lambda book: desk.do(book, identity, desk.person_of(actor), what).id,
            str,
        )
        return visit.see_other(f"/consultations/{identity}", id=identity)

    async def complete(self, visit: Visit) -> web.StreamResponse:
        actor, identity = visit.actor, visit.match("id")
        opinion = (await visit.form(Reading)).opinion
        await visit.once(
            self._box.journal.transact,
            lambda book: desk.complete(book, identity, desk.person_of(actor), opinion).id,
            str,
        )
        return visit.see_other(f"/consultations/{identity}", id=identity)


def _as_id(once: str) -> str:
    return once if _ID.fullmatch(once) else ""


def _sent_before(sheets: Sheets, patient_id: str, once: str) -> Consultation | None:
    """What this form began when it was sent the first time: whoever went back and changed a word
    goes on with that one."""
    found = sheets.get(Consultation, _as_id(once)) if _as_id(once) else None
    if found is not None and found.patient_id != patient_id:
        raise desk.NoSuchConsultation("this patient has no consultation with that id")
    return found


def _patient(sheets: Sheets, identity: str) -> Patient:
    found = sheets.get(Patient, identity)
    if found is None:
        raise NoSuchPatient("this clinic has no patient with that id")
    return found


def _fill(book: Book, actor: Actor, case: Consultation, wanted: Request) -> None:
    """Write down what the form says, and ask if it is meant to."""
    by = desk.person_of(actor)
    if wanted.department and wanted.department not in DEPARTMENTS:
        raise UnknownDepartment(f"no such department: {wanted.department[:20]}")
    fields: dict[str, Any] = {
        "complaint": wanted.complaint.strip(),
        "department": wanted.department,
        "icd": wanted.icd.strip().upper(),
        "studies": _own_studies(book, case, wanted.studies),
    }
    changed = {name: value for name, value in fields.items() if getattr(case, name) != value}
    if changed:
        case = desk.do(book, case.id, by, Edited(**changed))
    if wanted.ask:
        if not wanted.consent:
            raise ConsentMissing("tick that the patient agreed, and say how and who")
        decided = accepted_level(book, case.patient_id)
        consent = Consent(
            form=wanted.consent_form,
            given_by=wanted.consent_given_by.strip(),
            relation=wanted.consent_relation,
            text_version=CONSENT_TEXT,
            recorded_by=by,
            at_ms=book.now_ms,
        )
        level = int(decided.level) if decided else None
        triage = decided.suggestion_id if decided else ""
        desk.do(book, case.id, by, Submitted(consent=consent, acuity=level, triage=triage))


def _own_studies(sheets: Sheets, case: Consultation, wanted: list[str]) -> tuple[str, ...]:
    """Only what is this patient's goes out with a request."""
    own = {study.id for study in sheets.find(Study, owner=case.patient_id)}
    return tuple(identity for identity in wanted if identity in own)
