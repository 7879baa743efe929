"""Vital signs on both consoles: what the chart asks for, and how it is answered."""

from typing import Final

import msgspec
from aiohttp import web

from lianzhen_protocol.bedside import Trend

from .routes import Visit

HOURS: Final = (1, 4, 12, 24)
DEFAULT_HOURS: Final = 12
_HOUR_MS: Final = 3_600_000


def hours_of(visit: Visit) -> int:
    """How far back a chart goes, in ms: one of ``HOURS`` that its page offers."""
    wanted = visit.query("hours")
    known = {str(hours): hours for hours in HOURS}
    return known.get(wanted, DEFAULT_HOURS) * _HOUR_MS


def trend_answer(found: Trend) -> web.Response:
    """JSON, whoever asks; never kept by a cache."""
    return web.Response(
        body=msgspec.json.encode({"trend": found}),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
