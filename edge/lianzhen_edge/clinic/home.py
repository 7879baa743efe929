"""The first page after signing in."""

from typing import TYPE_CHECKING

from aiohttp import web

from lianzhen_runtime.web.routes import SIGNED_IN, Routes, Visit

if TYPE_CHECKING:
    from lianzhen_edge.box import Box


def routes(box: "Box") -> Routes:
    """It shows what the visitor may do."""
    _ = box
    found = Routes()

    @found.get("/", roles=SIGNED_IN)
    async def first(visit: Visit) -> web.Response:
        return visit.page("home.html")

    return found
