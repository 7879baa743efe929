"""Money at the clinic: insurance as read from the card, and bills line by line."""

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.journal.states import Item
from lianzhen_edge.settlement.desk import (
    NewCoverage,
    say_again,
    settle_consultation,
    state_coverage,
)
from lianzhen_protocol.accounts import CLINICAL
from lianzhen_protocol.identity import RecordId
from lianzhen_protocol.people import Patient
from lianzhen_protocol.settlement import Coverage, Difference, Settlement, State
from lianzhen_protocol.settling import Line, bill, unsettled
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.web.routes import Routes, Visit

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

_T = TypeVar("_T")
INSURANCES = ("resident", "employee")
"""What the pages offer; a program may send any that a policy knows."""


class NoSuchMoney(LianzhenError):
    """There is no such patient or claim at this clinic."""

    code = "not-found"
    http_status = 404


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """A claim for a page: its lines, where it is on its way, and what the hub had otherwise."""

    settlement: Settlement
    lines: list[Line]
    item: Item | None
    differences: list[Difference]


def routes(box: "Box") -> Routes:
    """Every page of money."""
    found = Routes()
    pages = _Pages(box)

    def opened(journal: Journal) -> None:
        journal.on_change(changed)

    def changed(sheets: set[tuple[str, str]]) -> None:
        if any(kind in {Settlement.SHEET, Difference.SHEET} for kind, _ in sheets):
            box.live.tell("settlement", roles=CLINICAL)

    box.when_open(opened)
    found.get("/patients/{id}/settlement", roles=CLINICAL)(pages.patient)
    found.get("/patients/{id}/settlement/fragment", roles=CLINICAL)(pages.fragment)
    found.post("/patients/{id}/coverage", roles=CLINICAL)(pages.cover)
    found.post("/consultations/{id}/settlement", roles=CLINICAL)(pages.settle)
    found.get("/settlements/{id}", roles=CLINICAL)(pages.bill)
    return found


class _Pages:
    def __init__(self, box: "Box") -> None:
        self._box = box

    async def patient(self, visit: Visit) -> web.Response:
        """The whole page of a patient's money."""
        return visit.page("money/patient.html", **self._account(visit))

    async def fragment(self, visit: Visit) -> web.Response:
        """The same as a part of another page."""
        return visit.page("money/account.html", **self._account(visit))

    async def cover(self, visit: Visit) -> web.Response:
        """Insurance as read from the card."""
        said, patient, actor = await visit.form(NewCoverage), visit.match("id"), visit.actor.id
        await visit.once(
            self._box.journal.transact,
            lambda book: state_coverage(book, patient, said, actor),
            type(None),
        )
        return visit.see_other(f"/patients/{patient}/settlement")

    async def settle(self, visit: Visit) -> web.Response:
        """Settle a completed consultation; asked again, it is the claim that stands.

        One that the hub rejected is said again.
        """
        case, actor = visit.match("id"), visit.actor.id
        act, transact = await visit.act(), self._box.journal.transact
        made = await transact(lambda book: settle_consultation(book, case, actor))
        item = self._box.item(RecordId(bytes.fromhex(made.id)))
        if made.state is State.PENDING and item is not None and item.rejected:
            await act.do(transact, lambda book: say_again(book, made.claim, actor), type(None))
        return visit.see_other(f"/settlements/{made.id}", id=made.id)

    async def bill(self, visit: Visit) -> web.Response:
        """One bill, to be printed."""
        key = visit.match("id")

        sheets = self._box.journal.sheets
        claim = _known(sheets.get(Settlement, key))
        patient = _known(sheets.get(Patient, claim.claim.patient_id))
        shown = self._shown(claim, sheets.find(Difference, owner=patient.id))
        return visit.page("money/bill.html", bill=shown, patient=patient, clinic=self._box.clinic)

    def _account(self, visit: Visit) -> dict[str, Any]:
        key, sheets = visit.match("id"), self._box.journal.sheets
        patient = _known(sheets.get(Patient, key))
        differences = sheets.find(Difference, owner=key)
        claims = sheets.find(Settlement, owner=key, newest=True)
        return {
            "patient": patient,
            "coverage": sheets.get(Coverage, key),
            "bills": [self._shown(each, differences) for each in claims],
            "unsettled": unsettled(sheets, key),
            "insurances": INSURANCES,
        }

    def _shown(self, claim: Settlement, differences: list[Difference]) -> Bill:
        item = self._box.item(RecordId(bytes.fromhex(claim.id)))
        mine = [each for each in differences if each.said.claim_id == claim.id]
        return Bill(settlement=claim, lines=bill(claim), item=item, differences=mine)


def _known(found: _T | None) -> _T:
    if found is None:
        raise NoSuchMoney("this clinic has nothing of that id")
    return found
