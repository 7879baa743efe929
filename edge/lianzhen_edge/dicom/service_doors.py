"""What the services of the DICOM port ask the core, over the control socket."""

from typing import TYPE_CHECKING

from aiohttp import web

from lianzhen_runtime.problems import json_answer

from . import orders
from .services.said import Listed

if TYPE_CHECKING:
    from lianzhen_edge.box import Box


def routes(box: "Box") -> list[web.RouteDef]:
    """NotEnrolled or NotReady while there is no journal, which a service takes for 'later'."""

    async def worklist(_request: web.Request) -> web.Response:
        due = orders.due(box.journal.sheets, box.clinic)
        return json_answer(Listed(now_ms=box.clock.now_ms, due=due))

    return [web.get("/dicom/worklist", worklist)]
