"""Patients at the hub: masked for admins, without ID number and telephone for the expert on a case.

Nobody browses patients by name here: an admin finds one by a whole number, and each look is logged.
"""

from typing import Final

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.access import case_of
from lianzhen_hub.consultations.inbox import clinic_names
from lianzhen_hub.hub import Hub
from lianzhen_hub.page import HubPage
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol import gb11643, people
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.errors import PatientError
from lianzhen_protocol.people import Patient
from lianzhen_runtime.web.errors import NoSuchThing
from lianzhen_runtime.web.routes import Routes, Visit

ADMINS: Final = frozenset({Role.ADMIN})
EXPERTS: Final = frozenset({Role.EXPERT})
_NEWEST: Final = 50


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A patient as an admin sees one: enough to tell two apart, not who it is."""

    patient: Patient
    clinic: str
    elsewhere: list[str]
    """Clinics that know a person with the same ID number."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the expert on a case cares for."""

    patient: Patient
    clinic: str
    elsewhere: list[str]
    temporary: list[Patient]
    """Identities under which they were registered before it was known who they are."""


def found_by(sheets: HubSheets, text: str) -> list[Patient]:
    """Patients by a whole patient number or ID number, or the newest without one."""
    if not text.strip():
        return sheets.find(Patient, newest=True, limit=_NEWEST)
    try:
        return people.by_number(sheets, people.patient_number(text))
    except PatientError:
        pass
    try:
        return people.by_id_number(sheets, gb11643.parse(text).text)
    except PatientError:
        return []


def summary(sheets: HubSheets, actor: Actor, case: str) -> Summary:
    """For the expert on that case; NoSuchCase for everybody else."""
    known = people.known_patient(sheets, case_of(sheets, actor, case).patient_id)
    clinics = clinic_names(sheets)
    parts = people.whole(sheets, known.id)[1:]
    return Summary(
        patient=people.for_care(known),
        clinic=clinics.get(known.node, known.node),
        elsewhere=_elsewhere(sheets, known, clinics),
        temporary=[people.for_care(people.known_patient(sheets, each)) for each in parts],
    )


def routes(hub: Hub) -> Routes:
    """Everything of this area."""
    found = Routes()
    found.entry("/patients", "people.title", roles=ADMINS, order=40)

    @found.get("/patients", roles=ADMINS)
    async def all_(visit: Visit) -> web.StreamResponse:
        query, who = visit.query("q"), visit.actor.id
        rows = await hub.consult(lambda sheets: _rows(sheets, query))

        def note(page: HubPage) -> None:
            for row in rows:
                page.audit(who, "read", f"patient/{row.patient.id}")

        await hub.transact(note)
        return visit.page("people/list.html", rows=rows, q=query)

    @found.get("/patients/{id}", roles=ADMINS)
    async def one(visit: Visit) -> web.StreamResponse:
        identity, who = visit.match("id"), visit.actor.id
        row = await hub.consult(lambda sheets: _one(sheets, identity))
        await hub.transact(lambda page: page.audit(who, "read", f"patient/{identity}"))
        return visit.page("people/one.html", row=row)

    @found.get("/cases/{id}/patient", roles=EXPERTS)
    async def of_case(visit: Visit) -> web.StreamResponse:
        actor, case = visit.actor, visit.match("id")
        shown = await hub.consult(lambda sheets: summary(sheets, actor, case))
        await hub.transact(lambda page: page.audit(actor.id, "read", f"patient/{shown.patient.id}"))
        return visit.page("people/summary_fragment.html", **msgspec.structs.asdict(shown))

    return found


def _rows(sheets: HubSheets, query: str) -> list[Row]:
    clinics = clinic_names(sheets)
    return [_row(sheets, patient, clinics) for patient in found_by(sheets, query)]


def _one(sheets: HubSheets, identity: str) -> Row:
    patient = sheets.get(Patient, identity)
    if patient is None:
        raise NoSuchThing("there is no patient with that id")
    return _row(sheets, patient, clinic_names(sheets))


def _row(sheets: HubSheets, patient: Patient, clinics: dict[str, str]) -> Row:
    return Row(
        patient=people.masked(patient),
        clinic=clinics.get(patient.node, patient.node),
        elsewhere=_elsewhere(sheets, patient, clinics),
    )


def _elsewhere(sheets: HubSheets, patient: Patient, clinics: dict[str, str]) -> list[str]:
    return [clinics.get(other.node, other.node) for other in people.same_person(sheets, patient)]
