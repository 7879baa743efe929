"""The patient's page: own consultations. Opinions, bill and access log are other areas' parts."""

from typing import Final

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.inbox import clinic_names
from lianzhen_hub.hub import Hub
from lianzhen_hub.page import HubPage
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


def routes(hub: Hub) -> Routes:
    """Everything of this area."""
    found = Routes()

    async def mine(visit: Visit) -> web.StreamResponse:
        actor = visit.actor
        patient, own = await hub.transact(lambda page: _read(page, actor))
        return visit.page(
            "mine/mine.html", patient=patient, consultations=own, departments=DEPARTMENTS
        )

    found.entry("/mine", "mine.title", roles=PATIENTS, order=10)
    found.get("/mine", roles=PATIENTS)(mine)
    return found


def _read(page: HubPage, actor: Actor) -> tuple[Patient | None, list[Own]]:
    """Whose account it is, and their requests; a draft is not one yet. It is noted as read."""
    if not actor.patient:
        return None, []
    clinics = clinic_names(page)
    found = page.find(Consultation, owner=actor.patient, newest=True)
    page.audit(actor.id, "read", f"patient/{actor.patient}")
    own = [_own(each, clinics) for each in found if each.state is not State.DRAFT]
    return page.get(Patient, actor.patient), own


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
    )
