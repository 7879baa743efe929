"""Audit logs for the hub's admins, and for each patient who saw their data."""

from typing import TYPE_CHECKING

from aiohttp import web

from lianzhen_hub.consultations.inbox import clinic_names
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.audit import HUB_LOG
from lianzhen_runtime.web.audit import SHOWN, AuditLine, LogState, lines, state
from lianzhen_runtime.web.routes import Routes, Visit

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

ADMINS = frozenset({Role.ADMIN})
PATIENTS = frozenset({Role.PATIENT})


def routes(hub: "Hub") -> Routes:
    """Every log, and one patient's part of all of them."""
    found = Routes()
    found.entry("/audit", "audit.title", roles=ADMINS, order=80)
    found.entry("/my/access", "audit.access", roles=PATIENTS, order=60)

    @found.get("/audit", roles=ADMINS)
    async def log(visit: Visit) -> web.Response:
        chosen, actor = visit.query("log", HUB_LOG), visit.actor.id

        def look(sheets: HubSheets) -> tuple[list[AuditLine], list[LogState]]:
            newest = [(chosen, row) for row in sheets.audit_newest(chosen, SHOWN)]
            logs = sorted({HUB_LOG, *sheets.audit_logs()})
            places = clinic_names(sheets)
            shown = lines(sheets, newest, places)
            return shown, [state(sheets.audit_verify(each), places) for each in logs]

        rows, logs = await hub.consult(look)
        await hub.transact(lambda page: page.audit(actor, "read", f"audit/{chosen}"))
        return visit.page("audit/log.html", rows=rows, logs=logs, chosen=chosen)

    @found.get("/my/access", roles=PATIENTS)
    async def access(visit: Visit) -> web.Response:
        patient = visit.actor.patient

        def look(sheets: HubSheets) -> list[AuditLine]:
            return lines(sheets, sheets.audit_of(patient, SHOWN), clinic_names(sheets))

        rows = await hub.consult(look)
        return visit.page("audit/access.html", rows=rows, title="audit.access")

    return found
