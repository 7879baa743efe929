"""Vital signs and alarms of a case, for the expert who is on it."""

from collections.abc import Collection
from typing import Final

from aiohttp import web

from lianzhen_hub.consultations.access import case_of
from lianzhen_hub.hub import Hub
from lianzhen_protocol import bedside
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.alarms import Alarm
from lianzhen_protocol.bedside import Bedside, Trend
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.vitals import Vitals
from lianzhen_runtime.web.routes import Routes, Visit
from lianzhen_runtime.web.signs import hours_of, trend_answer

EXPERTS: Final = frozenset({Role.EXPERT})


def routes(hub: Hub) -> Routes:
    """Everything of this area."""
    found, pages = Routes(), _Pages(hub)
    hub.on_change(lambda changed: _tell(hub, changed))
    found.get("/cases/{id}/vitals", roles=EXPERTS)(pages.fragment)
    found.get("/cases/{id}/vitals.json", roles=EXPERTS)(pages.trend)
    return found


def _tell(hub: Hub, changed: Collection[tuple[str, str]]) -> None:
    """Open cases look again; what they may see is decided when they ask."""
    if any(kind == Alarm.SHEET for kind, _ in changed):
        hub.live.tell("alarm", roles=EXPERTS)
    for kind, key in changed:
        if kind == Vitals.SHEET:
            hub.live.tell(f"vitals-{key}", roles=EXPERTS)


class _Pages:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def fragment(self, visit: Visit) -> web.StreamResponse:
        """A part of the case, which notes that it was read."""
        actor, identity, now_ms = visit.actor, visit.match("id"), self._hub.now_ms()

        def look(sheets: Sheets) -> Bedside:
            case = case_of(sheets, actor, identity)
            return bedside.bedside(sheets, case.patient_id, now_ms)

        return visit.page("vitals/fragment.html", bed=await self._hub.consult(look))

    async def trend(self, visit: Visit) -> web.StreamResponse:
        """JSON for the chart."""
        actor, identity = visit.actor, visit.match("id")
        since_ms = self._hub.now_ms() - hours_of(visit)

        def look(sheets: Sheets) -> Trend:
            case = case_of(sheets, actor, identity)
            return bedside.trend(sheets, case.patient_id, since_ms)

        return trend_answer(await self._hub.consult(look))
