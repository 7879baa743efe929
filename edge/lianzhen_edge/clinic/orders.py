"""Examinations on a patient's page: what was ordered, how far it is, what the modality said."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from aiohttp import web

from lianzhen_edge.dicom import orders
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.accounts import CLINICAL, Role
from lianzhen_protocol.imaging import Study
from lianzhen_protocol.orders import MODALITIES, Order, Procedure, Reason, Step
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.web.routes import Routes, Visit

from .consultations import DOCTORS
from .people import by, known_patient

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

_NEWEST: Final = 50
_Modality = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(MODALITIES)})$")]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The order form."""

    modality: _Modality
    procedure: Procedure
    reason: Reason = ""


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why an order is taken back."""

    why: Reason = ""


def routes(box: "Box") -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(box)

    def opened(journal: Journal) -> None:
        journal.on_change(changed)

    def changed(sheets: set[tuple[str, str]]) -> None:
        if any(kind in {Order.SHEET, Step.SHEET} for kind, _ in sheets):
            box.live.tell_soon("order", CLINICAL)

    box.when_open(opened)
    found.get("/patients/{id}/orders", roles=CLINICAL)(pages.of_patient)
    found.post("/patients/{id}/orders", roles=DOCTORS)(pages.place)
    found.post("/orders/{id}/cancel", roles=DOCTORS)(pages.cancel)
    return found


def steps_of(sheets: Sheets, patient: str) -> list[Step]:
    """What modalities did for a patient: by an order, or in a study that was joined."""
    found = {step.id: step for step in sheets.find(Step, owner=patient, newest=True, limit=_NEWEST)}
    studies = {study.id for study in sheets.find(Study, owner=patient, newest=True, limit=_NEWEST)}
    for step in sheets.find(Step, owner="", newest=True):
        if step.study in studies:
            found.setdefault(step.id, step)
    return sorted(found.values(), key=lambda step: -step.at_ms)[:_NEWEST]


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box

    async def of_patient(self, visit: Visit) -> web.StreamResponse:
        """A part of the patient's page."""
        return visit.page("orders/patient_fragment.html", **self._shown(visit))

    def _shown(self, visit: Visit) -> dict[str, Any]:
        sheets, key = self._box.journal.sheets, visit.match("id")
        patient = known_patient(sheets, key)
        steps = steps_of(sheets, key)
        return {
            "patient": patient,
            "orders": sheets.find(Order, owner=key, limit=_NEWEST, newest=True),
            "steps": steps,
            "shown": {step.study for step in steps if sheets.get(Study, step.study)},
            "modalities": [(each, visit.t(f"orders.modality_{each}")) for each in MODALITIES],
            "may_order": Role.DOCTOR in visit.actor.roles,
        }

    async def place(self, visit: Visit) -> web.StreamResponse:
        wanted, who, patient = await visit.form(Wanted), by(visit.actor), visit.match("id")
        made = await visit.once(
            self._box.journal.transact,
            lambda book: (
                orders.place(
                    book, who, patient, wanted.modality, wanted.procedure.strip(), wanted.reason
                ).id
            ),
            str,
        )
        return visit.see_other(f"/patients/{patient}", id=made)

    async def cancel(self, visit: Visit) -> web.StreamResponse:
        said, who, key = await visit.form(Why), by(visit.actor), visit.match("id")
        patient = await visit.once(
            self._box.journal.transact,
            lambda book: orders.cancel(book, who, key, said.why).patient_id,
            str,
        )
        return visit.see_other(f"/patients/{patient}", id=key)
