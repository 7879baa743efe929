"""The clinic's pages of patients: find, register, correct, link, and say whose it is."""

from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from lianzhen_edge.journal.book import Book
from lianzhen_edge.patients import desk
from lianzhen_edge.patients.desk import Details
from lianzhen_edge.patients.directory import Directory
from lianzhen_protocol import bindings, gb11643, joins, people
from lianzhen_protocol.accounts import CLINICAL, Actor
from lianzhen_protocol.errors import PatientError
from lianzhen_protocol.joins import Item
from lianzhen_protocol.people import By, Patient
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.wearables import Wearable
from lianzhen_runtime.problems import json_answer
from lianzhen_runtime.web.errors import NoSuchThing
from lianzhen_runtime.web.routes import Handler, Routes, Visit

from .reads import Reads

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

AREAS: Final = (
    # area, what its part is loaded from, where the whole is, what makes the part look again
    ("vitals", "vitals", "monitor", "alarm vitals-"),
    ("triage", "triage/summary", "triage", "triage"),
    ("orders", "orders", "", "order"),
    ("imaging", "imaging", "", "imaging tray"),
    ("consultations", "consultations", "", "consultation opinion"),
    ("opinions", "opinions", "", "opinion consultation"),
    ("settlement", "settlement/fragment", "settlement", "settlement"),
)
"""Parts of a patient's page, each another area's. A word that ends in a hyphen goes on with the
patient's id."""


class NewPatient(Details, frozen=True, kw_only=True):
    """The registration form; ``id`` is made with the form, so that sending it twice is one."""

    id: str = ""


class Correction(Details, frozen=True, kw_only=True):
    """The same with the reason."""

    why: str = ""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """To whom a temporary identity is linked: two identifiers of the known patient, and why."""

    number: str = ""
    second: str = ""
    why: str = ""


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """A reason alone."""

    why: str = ""


class Typed(msgspec.Struct, frozen=True, kw_only=True):
    """An ID number as far as it is typed."""

    id_number: str


class Section(msgspec.Struct, frozen=True):
    """A part of a patient's page: which area's, and of which identity."""

    area: str
    source: str
    whole: str
    on: str
    of: str
    name: str


def by(actor: Actor) -> By:
    """Who does it."""
    return By(account=actor.id, name=actor.name)


def said(visit: Visit, error: PatientError) -> str:
    """A refusal in the visitor's words."""
    try:
        return visit.t(f"people.error_{error.code}")
    except KeyError:
        return str(error)


def spoken(handler: Handler) -> Handler:
    """What cannot be is said to people in their words, with the way back."""

    async def handle(visit: Visit) -> web.StreamResponse:
        try:
            return await handler(visit)
        except PatientError as error:
            if visit.wants_json:
                raise
            back = visit.request.path.rpartition("/")[0]
            return visit.page(
                "people/refused.html", status=422, wrong=said(visit, error), back=back
            )

    return handle


def known_patient(sheets: Sheets, patient: str) -> Patient:
    """A patient of this clinic, or 404."""
    found = sheets.get(Patient, patient)
    if found is None:
        raise NoSuchThing("this clinic has no patient with that id")
    return found


def device_names(sheets: Sheets) -> dict[str, str]:
    """What people call the wearables."""
    return {device.id: device.name for device in sheets.find(Wearable)}


def routes(box: "Box") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(box)
    box.when_open(lambda journal: journal.on_change(lambda changed: _tell(box, changed)))
    found.entry("/patients", "people.title", roles=CLINICAL, order=10)
    found.get("/patients", roles=CLINICAL)(pages.all)
    found.get("/patients/fragment", roles=CLINICAL)(pages.all_fragment)
    found.get("/patients/new", roles=CLINICAL)(pages.new)
    found.post("/patients", roles=CLINICAL)(pages.register)
    found.post("/patients/temporary", roles=CLINICAL)(pages.temporary)
    found.post("/patients/check", roles=CLINICAL)(pages.check)
    found.get("/patients/{id}", roles=CLINICAL)(pages.one)
    found.get("/patients/{id}/own", roles=CLINICAL)(pages.one_fragment)
    found.get("/patients/{id}/correct", roles=CLINICAL)(pages.correction)
    found.post("/patients/{id}/correct", roles=CLINICAL)(pages.correct)
    found.post("/patients/{id}/link", roles=CLINICAL)(spoken(pages.link))
    found.post("/patients/{id}/unlink", roles=CLINICAL)(spoken(pages.unlink))
    return found


def _tell(box: "Box", changed: set[tuple[str, str]]) -> None:
    kinds = {kind for kind, _ in changed}
    for kind, word in ((Patient, "patient"), (bindings.Binding, "binding"), (Item, "tray")):
        if kind.SHEET in kinds:
            box.live.tell_soon(word, CLINICAL)


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box
        self._reads = Reads(box)
        self._found: Directory | None = None

    @property
    def _directory(self) -> Directory:
        if self._found is None:
            self._found = Directory(self._box.journal)
        return self._found

    async def all(self, visit: Visit) -> web.StreamResponse:
        return await self._list(visit, "people/list.html")

    async def all_fragment(self, visit: Visit) -> web.StreamResponse:
        return await self._list(visit, "people/list_fragment.html")

    async def _list(self, visit: Visit, page: str) -> web.Response:
        query = visit.query("q")
        patients = self._directory.search(query)
        await self._reads.note(visit, "patient-list/search")
        return visit.page(page, patients=patients, q=query)

    # -- registering

    async def new(self, visit: Visit) -> web.StreamResponse:
        identity = await self._box.journal.transact(lambda book: book.new_id())
        return self._form(visit, Details(), identity)

    def _form(self, visit: Visit, details: Details, identity: str, wrong: str = "") -> web.Response:
        context: dict[str, Any] = {"details": details, "id": identity, "wrong": wrong}
        status = 422 if wrong else 200
        return visit.page("people/form.html", status=status, patient=None, **context)

    async def register(self, visit: Visit) -> web.StreamResponse:
        wanted = await visit.form(NewPatient)
        details = _details(wanted)
        try:
            return await self._register(visit, details, wanted.id)
        except PatientError as error:
            if visit.wants_json:
                raise
            return self._form(visit, details, wanted.id, said(visit, error))

    async def temporary(self, visit: Visit) -> web.StreamResponse:
        return await self._register(visit, Details(temporary=True), "")

    async def _register(self, visit: Visit, details: Details, identity: str) -> web.Response:
        who = by(visit.actor)

        def work(book: Book) -> tuple[str, str, bool]:
            patient, fresh = desk.register(book, who, details, identity)
            return patient.id, patient.number, fresh

        key, number, fresh = await visit.once(
            self._box.journal.transact, work, tuple[str, str, bool]
        )
        where = f"/patients/{key}" + ("" if fresh else "?known=1")
        return visit.see_other(where, id=key, number=number, fresh=fresh)

    async def check(self, visit: Visit) -> web.StreamResponse:
        """What an ID number says, and who has it here; for the form, as one types."""
        typed = await visit.form(Typed)
        try:
            found = gb11643.parse(typed.id_number)
        except PatientError as error:
            return json_answer({"wrong": said(visit, error), "code": error.code})
        same = people.by_id_number(self._box.journal.sheets, found.text)
        for patient in same:  # that they are known here is their data too
            await self._reads.note(visit, f"patient/{patient.id}")
        return json_answer(
            {
                "wrong": "",
                "birth_date": found.birth_date,
                "sex": "M" if found.male else "F",
                "known": [patient.id for patient in same],
            }
        )

    # -- one patient

    async def one(self, visit: Visit) -> web.StreamResponse:
        sheets, identity = self._box.journal.sheets, visit.match("id")
        patient = known_patient(sheets, identity)
        await self._reads.note(visit, f"patient/{identity}")
        parts = [known_patient(sheets, other) for other in people.whole(sheets, identity)]
        here = {resource.canonical for resource in visit.request.app.router.resources()}
        sections = [
            section
            for path in AREAS
            if f"/patients/{{id}}/{path[1]}" in here
            for section in (_section(path, part) for part in parts)
        ]
        return visit.page(
            "people/show.html",
            **self._own(patient),
            parts=parts[1:],
            linked=sheets.get(Patient, patient.linked_to) if patient.linked_to else None,
            known=bool(visit.query("known")),
            sections=sections,
            access="/patients/{id}/access" in here,
        )

    async def one_fragment(self, visit: Visit) -> web.StreamResponse:
        patient = known_patient(self._box.journal.sheets, visit.match("id"))
        await self._reads.note(visit, f"patient/{patient.id}")
        return visit.page("people/show_fragment.html", **self._own(patient))

    def _own(self, patient: Patient) -> dict[str, Any]:
        sheets = self._box.journal.sheets
        return {
            "patient": patient,
            "bindings": bindings.of_patient(sheets, patient.id),
            "items": sheets.find(Item, owner=patient.id, state=joins.JOINED, newest=True),
            "names": device_names(sheets),
        }

    async def correction(self, visit: Visit) -> web.StreamResponse:
        patient = known_patient(self._box.journal.sheets, visit.match("id"))
        await self._reads.note(visit, f"patient/{patient.id}")
        details = Details(
            name=patient.name,
            sex=patient.sex,
            birth_date=patient.birth_date,
            id_number=patient.id_number or "",
            phone=patient.phone,
            pregnant=patient.pregnant,
            temporary=patient.temporary,
        )
        return visit.page("people/form.html", patient=patient, details=details, wrong="", id="")

    async def correct(self, visit: Visit) -> web.StreamResponse:
        identity, who, wanted = visit.match("id"), by(visit.actor), await visit.form(Correction)
        patient = known_patient(self._box.journal.sheets, identity)
        details = _details(wanted)

        def work(book: Book) -> str:
            return desk.correct(book, who, identity, details, wanted.why).number

        try:
            number = await visit.once(self._box.journal.transact, work, str)
        except PatientError as error:
            if visit.wants_json:
                raise
            wrong = said(visit, error)
            context: dict[str, Any] = {"patient": patient, "details": details, "wrong": wrong}
            return visit.page("people/form.html", status=422, id="", **context)
        return visit.see_other(f"/patients/{identity}", id=identity, number=number)

    async def link(self, visit: Visit) -> web.StreamResponse:
        identity, who, wanted = visit.match("id"), by(visit.actor), await visit.form(Link)

        def work(book: Book) -> str:
            known = confirmed(book, wanted.number, wanted.second)
            desk.link(book, who, identity, known.id, wanted.why)
            return known.id

        known = await visit.once(self._box.journal.transact, work, str)
        return visit.see_other(f"/patients/{known}", id=known)

    async def unlink(self, visit: Visit) -> web.StreamResponse:
        identity, who, wanted = visit.match("id"), by(visit.actor), await visit.form(Why)
        await visit.once(
            self._box.journal.transact,
            lambda book: desk.unlink(book, who, identity, wanted.why),
            type(None),
        )
        return visit.see_other(f"/patients/{identity}", id=identity)


def _section(path: tuple[str, str, str, str], patient: Patient) -> Section:
    area, source, whole, on = path
    base = f"/patients/{patient.id}"
    return Section(
        area=area,
        source=f"{base}/{source}",
        whole=f"{base}/{whole}" if whole else "",
        on=" ".join(word + patient.id if word.endswith("-") else word for word in on.split()),
        of=patient.id,
        name=patient.name,
    )


def confirmed(book: Book, number: str, second: str) -> Patient:
    """The patient of this clinic whom two identifiers name; PatientError otherwise."""
    found = [
        p for p in people.by_number(book, people.patient_number(number)) if p.node == book.node
    ]
    if len(found) != 1:
        raise PatientError("nobody here has this patient number", code="number-unknown")
    joins.confirm(found[0], number, second)
    return found[0]


def _details(wanted: Details) -> Details:
    return Details(**{name: getattr(wanted, name) for name in Details.__struct_fields__})
