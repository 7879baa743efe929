"""The box's audit log for its admins, and who saw a patient's data for whoever treats them."""

from typing import TYPE_CHECKING

from aiohttp import web

from lianzhen_edge.journal.book import Book
from lianzhen_protocol.accounts import CLINICAL, Role
from lianzhen_runtime.web.audit import SHOWN, AuditLine, LogState, lines, state
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
        actor = visit.actor.id

        def look(book: Book) -> tuple[list[AuditLine], LogState]:
            newest = [(book.node, row) for row in book.audit_newest(book.node, SHOWN)]
            book.audit(actor, "read", f"audit/{book.node}")
            return lines(book, newest, _here(book.node)), state(book.audit_verify(book.node))

        rows, whole = await box.journal.transact(look)
        return visit.page("audit/log.html", rows=rows, logs=[whole], chosen=whole.log)

    @found.get("/patients/{id}/access", roles=CLINICAL | ADMINS)
    async def access(visit: Visit) -> web.Response:
        sheets = box.journal.sheets
        found = sheets.audit_of(visit.match("id"), SHOWN)
        rows = lines(sheets, found, _here(box.journal.node))
        return visit.page("audit/access.html", rows=rows)

    def _here(node: str) -> dict[str, str]:
        return {node: box.clinic}

    return found
