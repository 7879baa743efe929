"""The patient's page: own consultations; opinions, bills and access log are other areas' pages."""

from typing import Final

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.inbox import clinic_names
from lianzhen_hub.hub import Hub
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.consultation import Consultation, State
from lianzhen_protocol.departments import DEPARTMENTS
from lianzhen_protocol.people import Patient
from lianzhen_runtime.web.routes import Routes, Visit

PATIENTS: Final = frozenset({Role.PATIENT})


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """One consultation as its patient sees it."""

    id: str
    state: State
    complaint: str
    department: str
    clinic: str
    doctor: str
    expert: str
    asked_ms: int
    completed_ms: int | None
    opinion: str
    """Id of the signed one, once there is one."""


def routes(hub: Hub) -> Routes:
    """Everything of this area."""
    found = Routes()

    async def mine(visit: Visit) -> web.StreamResponse:
        actor = visit.actor
        patient, own = await hub.consult(lambda sheets: _read(sheets, actor))
        return visit.page(
            "mine/mine.html",
            patient=patient,
            consultations=own,
            departments=DEPARTMENTS,
            opinions=visit.has("/mine/opinions/{id}"),
        )

    found.entry("/mine", "mine.title", roles=PATIENTS, order=10)
    found.get("/mine", roles=PATIENTS)(mine)
    return found


def _read(sheets: HubSheets, actor: Actor) -> tuple[Patient | None, list[Own]]:
    """Whose account it is, and their requests; a draft is not one yet."""
    if not actor.patient:
        return None, []
    clinics = clinic_names(sheets)
    found = sheets.find(Consultation, owner=actor.patient, newest=True)
    own = [_own(each, clinics) for each in found if each.state is not State.DRAFT]
    return sheets.get(Patient, actor.patient), own


def _own(each: Consultation, clinics: dict[str, str]) -> Own:
    return Own(
        id=each.id,
        state=each.state,
        complaint=each.complaint,
        department=each.department,
        clinic=clinics.get(each.node, each.node),
        doctor=each.doctor.name if each.doctor else "",
        expert=each.expert.name if each.expert else "",
        asked_ms=each.pending_ms or each.drafted_ms,
        completed_ms=each.completed_ms,
        opinion=each.opinion.id if each.opinion else "",
    )
