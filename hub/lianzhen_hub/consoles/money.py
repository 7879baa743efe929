"""Money at the hub: the ledger, differences and statements for admins; bills for patients."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.inbox import clinic_names
from lianzhen_hub.settlement import desk, views
from lianzhen_hub.settlement.desk import NoSuchClaim
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.accounts import Account, Role
from lianzhen_protocol.settlement import Coverage, Difference, Settlement
from lianzhen_protocol.settling import Line, bill
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.web.routes import Routes, Visit

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

ADMINS = frozenset({Role.ADMIN})
EXPERTS = frozenset({Role.EXPERT})
PATIENTS = frozenset({Role.PATIENT})


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a claim is taken back."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """A claim, its lines, and what its box had otherwise."""

    settlement: Settlement
    lines: list[Line]
    differences: list[Difference]


def routes(hub: "Hub") -> Routes:
    """Every page of money."""
    found = Routes()
    found.entry("/ledger", "bill.ledger", roles=ADMINS, order=60)
    found.entry("/differences", "bill.differences", roles=ADMINS, order=61)
    found.entry("/pay", "bill.pay", roles=ADMINS, order=62)
    found.entry("/my/pay", "bill.my_pay", roles=EXPERTS, order=60)
    found.entry("/my/bills", "bill.mine", roles=PATIENTS, order=50)
    pages = _Pages(hub)
    found.get("/ledger", roles=ADMINS)(pages.ledger)
    found.get("/differences", roles=ADMINS)(pages.differences)
    found.get("/pay", roles=ADMINS)(pages.pay)
    found.get("/settlements/{id}", roles=ADMINS)(pages.claim)
    found.post("/settlements/{id}/reverse", roles=ADMINS)(pages.reverse)
    found.get("/my/pay", roles=EXPERTS)(pages.my_pay)
    found.get("/my/bills", roles=PATIENTS)(pages.my_bills)
    return found


class _Pages:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    async def ledger(self, visit: Visit) -> web.Response:
        """Every account, recomputed from the transfers."""
        found = await self._hub.database.read(views.of_ledger)
        keys = {row.id.partition(":")[2] for row in found.accounts}
        names = await self._hub.consult(lambda sheets: _names(sheets, keys))
        return visit.page("money/ledger.html", ledger=found, names=names)

    async def differences(self, visit: Visit) -> web.Response:
        """What boxes had otherwise."""
        rows, clinics = await self._hub.consult(
            lambda sheets: (views.differences(sheets), clinic_names(sheets))
        )
        return visit.page("money/differences.html", rows=rows, clinics=clinics)

    async def pay(self, visit: Visit) -> web.Response:
        """Statements of all experts."""
        statements, earnings = await self._hub.consult(
            lambda sheets: (views.statements(sheets), views.earnings(sheets))
        )
        return visit.page("money/pay.html", statements=statements, earnings=earnings)

    async def my_pay(self, visit: Visit) -> web.Response:
        """An expert's own."""
        me = visit.actor.id
        statements, earnings = await self._hub.consult(
            lambda sheets: (views.statements(sheets, me), views.earnings(sheets, me))
        )
        return visit.page("money/pay.html", statements=statements, earnings=earnings)

    async def claim(self, visit: Visit) -> web.Response:
        """One claim, with a form to take it back."""
        key = visit.match("id")

        def look(sheets: HubSheets) -> tuple[Bill, dict[str, str]]:
            found = sheets.get(Settlement, key)
            if found is None:
                raise NoSuchClaim("the hub has no claim with that id")
            return _bill(sheets, found), clinic_names(sheets)

        found, clinics = await self._hub.consult(look)
        return visit.page("money/claim.html", bill=found, clinics=clinics)

    async def reverse(self, visit: Visit) -> web.Response:
        """Take a claim back; asked again, nothing more happens."""
        key, why, actor = visit.match("id"), await visit.form(Why), visit.actor.id
        await self._hub.transact(lambda page: desk.reverse(page, key, why.reason, actor))
        return visit.see_other(f"/settlements/{key}")

    async def my_bills(self, visit: Visit) -> web.Response:
        """A patient's own bills, line by line."""
        patient = visit.actor.patient

        def look(sheets: Sheets) -> tuple[list[Bill], Coverage | None]:
            mine = sheets.find(Settlement, owner=patient, newest=True) if patient else []
            return [_bill(sheets, each) for each in mine], sheets.get(Coverage, patient)

        bills, coverage = await self._hub.consult(look)
        return visit.page("money/bills.html", bills=bills, coverage=coverage)


def _names(sheets: HubSheets, keys: set[str]) -> dict[str, str]:
    """What people call a box or an expert, where the word after an account's colon is one."""
    found = {key: name for key, name in clinic_names(sheets).items() if key in keys}
    for key in keys - found.keys():
        account = sheets.get(Account, key)
        if account is not None:
            found[key] = account.profile.name
    return found


def _bill(sheets: Sheets, found: Settlement) -> Bill:
    owned = sheets.find(Difference, owner=found.claim.patient_id)
    mine = [each for each in owned if each.said.claim_id == found.id]
    return Bill(settlement=found, lines=bill(found), differences=mine)
