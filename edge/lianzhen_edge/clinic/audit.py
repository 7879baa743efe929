"""The box's audit log for its admins, and who saw a patient's data for whoever treats them."""

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from lianzhen_protocol.accounts import CLINICAL, Role
from lianzhen_runtime.web.audit import SHOWN, lines, state
from lianzhen_runtime.web.routes import Routes, Visit

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

ADMINS = frozenset({Role.ADMIN})


def routes(box: "Box") -> Routes:
    """The log, and one patient's part of it."""
    found = Routes()
    found.entry("/audit", "audit.title", roles=ADMINS, order=80)

    @found.get("/audit", roles=ADMINS)
    async def log(visit: Visit) -> web.Response:
        actor, journal = visit.actor.id, box.journal
        node, sheets = journal.node, journal.sheets
        newest = [(node, row) for row in sheets.audit_newest(node, SHOWN)]
        rows = lines(sheets, newest, _here(node))
        whole = state(await asyncio.to_thread(journal.audit_verdict), _here(node))
        await journal.transact(lambda book: book.audit(actor, "read", f"audit/{node}"))
        return visit.page("audit/log.html", rows=rows, logs=[whole], chosen=whole.log)

    @found.get("/patients/{id}/access", roles=CLINICAL | ADMINS)
    async def access(visit: Visit) -> web.Response:
        sheets = box.journal.sheets
        found = sheets.audit_of(visit.match("id"), SHOWN)
        rows = lines(sheets, found, _here(box.journal.node))
        return visit.page("audit/access.html", rows=rows, title="audit.access_of")

    def _here(node: str) -> dict[str, str]:
        return {node: box.clinic}

    return found
