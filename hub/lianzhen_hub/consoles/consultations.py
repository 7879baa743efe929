"""The expert's pages: inbox, case, accept, decline, start. Other areas hang their parts below a
case's address (``/cases/{id}/vitals``) and ask ``access.case_of`` who may see them.
"""

from collections.abc import Collection
from typing import Annotated, Final

import msgspec
from aiohttp import web

from lianzhen_hub.consultations import inbox, seen
from lianzhen_hub.consultations.access import NoSuchCase, case_of
from lianzhen_hub.consultations.history import NotPossible
from lianzhen_hub.consultations.inbox import Inbox
from lianzhen_hub.hub import Hub
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.consultation import Consultation
from lianzhen_protocol.departments import DEPARTMENTS
from lianzhen_protocol.matching import Expert
from lianzhen_protocol.people import Patient, for_care
from lianzhen_runtime.web.refusals import spoken
from lianzhen_runtime.web.routes import Handler, Routes, Visit

EXPERTS: Final = frozenset({Role.EXPERT})
PARTS: Final = ("patient", "vitals", "imaging", "triage")
"""Fragments of other areas below a case's address."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a case is given back."""

    reason: Annotated[str, msgspec.Meta(max_length=4000)] = ""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What the expert on a case is shown first."""

    case: Consultation
    patient: Patient | None
    clinic: str


def routes(hub: Hub) -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(hub)
    hub.live.on_presence(hub.presence.pages)
    hub.on_change(lambda changed: _tell(hub, changed))
    found.entry("/inbox", "consultations.inbox", roles=EXPERTS, order=10)
    found.get("/inbox", roles=EXPERTS)(pages.inbox)
    found.get("/inbox/fragment", roles=EXPERTS)(pages.inbox_fragment)
    found.get("/cases/{id}", roles=EXPERTS)(pages.case)
    found.get("/cases/{id}/fragment", roles=EXPERTS)(pages.case_fragment)
    found.post("/cases/{id}/accept", roles=EXPERTS)(_spoken(pages.accept))
    found.post("/cases/{id}/decline", roles=EXPERTS)(_spoken(pages.decline))
    found.post("/cases/{id}/start", roles=EXPERTS)(_spoken(pages.start))
    return found


def _spoken(handler: Handler) -> Handler:
    return spoken(handler, NotPossible, NoSuchCase)


def _tell(hub: Hub, changed: Collection[tuple[str, str]]) -> None:
    """Open inboxes and cases look again; what they may see is decided when they ask."""
    if any(kind in {Consultation.SHEET, Expert.SHEET} for kind, _ in changed):
        hub.live.tell("consultation", roles=frozenset({Role.EXPERT, Role.PATIENT}))


class _Pages:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def inbox(self, visit: Visit) -> web.StreamResponse:
        found = await self._inbox(visit)
        return visit.page("consultations/inbox.html", inbox=found, departments=DEPARTMENTS)

    async def inbox_fragment(self, visit: Visit) -> web.StreamResponse:
        found = await self._inbox(visit)
        return visit.page("consultations/inbox_fragment.html", inbox=found, departments=DEPARTMENTS)

    async def _inbox(self, visit: Visit) -> Inbox:
        actor = visit.actor
        self._hub.presence.asked(actor.id)
        return await self._hub.consult(lambda sheets: inbox.inbox_of(sheets, actor))

    async def case(self, visit: Visit) -> web.StreamResponse:
        actor, identity = visit.actor, visit.match("id")
        found, new = await self._hub.consult(lambda sheets: _read(sheets, actor, identity))
        if new and visit.opened:
            await self._hub.transact(lambda page: seen.seen(page, actor, found.case))
        return visit.page(
            "consultations/case.html",
            departments=DEPARTMENTS,
            parts=[part for part in PARTS if visit.has(f"/cases/{{id}}/{part}")],
            writes=visit.has("/cases/{id}/opinion"),
            **msgspec.structs.asdict(found),
        )

    async def case_fragment(self, visit: Visit) -> web.StreamResponse:
        """What changes while the page is open."""
        actor, identity = visit.actor, visit.match("id")
        found = await self._hub.consult(lambda sheets: case_of(sheets, actor, identity))
        return visit.page("consultations/case_fragment.html", case=found)

    async def accept(self, visit: Visit) -> web.StreamResponse:
        actor, identity = visit.actor, visit.match("id")
        await visit.once(
            self._hub.transact, lambda page: inbox.accept(page, actor, identity).id, str
        )
        return visit.see_other(f"/cases/{identity}", id=identity)

    async def decline(self, visit: Visit) -> web.StreamResponse:
        actor, identity = visit.actor, visit.match("id")
        reason = (await visit.form(Reason)).reason
        await visit.once(
            self._hub.transact, lambda page: inbox.decline(page, actor, identity, reason).id, str
        )
        return visit.see_other("/inbox", id=identity)

    async def start(self, visit: Visit) -> web.StreamResponse:
        actor, identity = visit.actor, visit.match("id")
        await visit.once(
            self._hub.transact, lambda page: inbox.start(page, actor, identity).id, str
        )
        return visit.see_other(f"/cases/{identity}", id=identity)


def _read(sheets: HubSheets, actor: Actor, identity: str) -> tuple[Case, bool]:
    """The case, and whether something of it was not yet seen by anybody."""
    case = case_of(sheets, actor, identity)
    clinic = inbox.clinic_names(sheets).get(case.node, case.node)
    known = sheets.get(Patient, case.patient_id)
    patient = for_care(known) if known else None
    return Case(case=case, patient=patient, clinic=clinic), seen.unseen(sheets, case)
