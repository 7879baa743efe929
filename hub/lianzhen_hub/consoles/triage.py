"""The expert's part of a case about triage: what was suggested at the clinic, and decided."""

from collections.abc import Collection
from typing import Final

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.access import case_of
from lianzhen_hub.hub import Hub
from lianzhen_hub.page import HubPage
from lianzhen_hub.triage.seen import seen, unseen
from lianzhen_protocol import triage
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.triage import TriageDecided, TriageSuggestion
from lianzhen_runtime.web.routes import Routes, Visit

HISTORY: Final = 50
EXPERTS: Final = frozenset({Role.EXPERT})


class Triaged(msgspec.Struct, frozen=True, kw_only=True):
    """What the expert is shown; the page of the case noted that it was read."""

    newest: TriageSuggestion | None
    history: list[TriageSuggestion]
    decided: TriageDecided | None
    unseen: bool


def routes(hub: Hub) -> Routes:
    """Everything of this area."""
    found = Routes()
    hub.on_change(lambda changed: _tell(hub, changed))

    @found.get("/cases/{id}/triage", roles=EXPERTS)
    async def show(visit: Visit) -> web.StreamResponse:
        actor, case = visit.actor, visit.match("id")
        shown = await hub.consult(lambda sheets: _shown(sheets, actor, case))
        newest = shown.newest
        if newest is not None and shown.unseen and visit.opened:
            await hub.transact(lambda page: _note_seen(page, actor, case, newest))
        return visit.page(
            "triage/fragment.html",
            newest=shown.newest,
            history=shown.history,
            decided=shown.decided,
        )

    return found


def _tell(hub: Hub, changed: Collection[tuple[str, str]]) -> None:
    if any(kind == TriageSuggestion.SHEET for kind, _ in changed):
        hub.live.tell("triage", roles=EXPERTS)


def _note_seen(page: HubPage, actor: Actor, case: str, shown: TriageSuggestion) -> None:
    """What was shown, and not what has come since."""
    seen(page, actor, case_of(page, actor, case).node, shown)


def _shown(sheets: Sheets, actor: Actor, case: str) -> Triaged:
    patient = case_of(sheets, actor, case).patient_id
    found = sheets.find(TriageSuggestion, owner=patient, newest=True, limit=HISTORY)
    newest = found[0] if found else None
    return Triaged(
        newest=newest,
        history=found[1:],
        decided=triage.accepted_level(sheets, patient),
        unseen=newest is not None and bool(unseen(sheets, newest)),
    )
