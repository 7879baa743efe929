"""What could not be done: people read it in their words with the way back, programs the problem.

For errors whose ``code`` has words in ``text/cases.json``.
"""

from aiohttp import web

from lianzhen_runtime.errors import LianzhenError

from .routes import Handler, Visit


def spoken(handler: Handler, *errors: type[LianzhenError]) -> Handler:
    """``handler``, whose ``errors`` become a page."""

    async def handle(visit: Visit) -> web.StreamResponse:
        try:
            return await handler(visit)
        except errors as error:
            if visit.wants_json:
                raise
            status = getattr(error, "http_status", 409)
            back = visit.request.path.rpartition("/")[0] or "/"
            page = "cases_refused.html"
            return visit.page(page, status=status, code=error.code, detail=str(error), back=back)

    return handle
