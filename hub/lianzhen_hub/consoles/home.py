"""The first page after signing in, and the hub's authority for whoever needs to install it."""

from typing import TYPE_CHECKING

from aiohttp import web

from lianzhen_runtime.web.routes import ANYBODY, SIGNED_IN, Routes, Visit

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub


def routes(hub: "Hub") -> Routes:
    """It shows what the visitor may do."""
    found = Routes()

    @found.get("/", roles=SIGNED_IN)
    async def first(visit: Visit) -> web.Response:
        return visit.page("home.html")

    @found.get("/lianzhen-hub.pem", roles=ANYBODY)
    async def authority(_visit: Visit) -> web.Response:
        """Only for a hub without a certificate of its operator's; its boxes pin the same one."""
        return web.Response(text=hub.authority.ca_pem, content_type="application/x-pem-file")

    return found
