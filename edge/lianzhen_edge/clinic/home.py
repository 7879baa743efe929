"""The first page, and how the box is: what has come how far, the line, the disk, what came back."""

import shutil
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from lianzhen_protocol import joins
from lianzhen_protocol.accounts import CLINICAL, STAFF
from lianzhen_runtime.web.routes import SIGNED_IN, Routes, Visit

from .todo import todo

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

_GIGA: Final = 1_000_000_000
_LOW: Final = 2.0
"""GB; below it somebody should make room."""
_SHOWN: Final = 50


class Progress(msgspec.Struct, frozen=True):
    """One stream: how many of its records have come how far, each state with those after it."""

    stream: str
    stored: int
    sent: int
    committed: int
    safe: int
    seen: int
    waiting: int
    oldest_ms: int | None


class Disk(msgspec.Struct, frozen=True):
    """In GB."""

    free: float
    total: float
    low: bool


def progress(box: "Box") -> list[Progress]:
    """Every stream of this box."""
    return [
        Progress(
            stream=each.stream,
            stored=each.last,
            sent=max(box.sent(each.stream), each.committed),
            committed=each.committed,
            safe=each.safe,
            seen=each.seen,
            waiting=each.last - each.committed,
            oldest_ms=each.oldest_ms,
        )
        for each in box.journal.stream_states()
    ]


def disk(box: "Box") -> Disk:
    """The disk that everything is kept on."""
    found = shutil.disk_usage(box.settings.folder)
    free = round(found.free / _GIGA, 1)
    return Disk(free, round(found.total / _GIGA, 1), free < _LOW)


def routes(box: "Box") -> Routes:
    """Open to whoever works here."""
    found = Routes()
    found.entry("/status", "status.title", roles=STAFF, order=80)

    def state() -> dict[str, Any]:
        rows = progress(box)
        oldest = [row.oldest_ms for row in rows if row.oldest_ms is not None]
        machine = box.status()
        return {
            "machine": machine,
            "lanes": [lane for lane in machine.lanes if lane.used],
            "alone": sum(lane.waiting_bytes for lane in machine.lanes),
            "rows": rows,
            "waiting": sum(row.waiting for row in rows),
            "oldest_ms": min(oldest, default=None),
            "disk": disk(box),
            "rejections": box.journal.rejections(_SHOWN),
            "tray": len(joins.tray(box.journal.sheets)),
            "clinical": CLINICAL,
        }

    @found.get("/", roles=SIGNED_IN)
    async def first(visit: Visit) -> web.Response:
        tasks = todo(box.journal.sheets, visit.actor)
        return visit.page("status/home.html", todo=tasks, **state())

    @found.get("/fragment", roles=SIGNED_IN)
    async def first_fragment(visit: Visit) -> web.Response:
        tasks = todo(box.journal.sheets, visit.actor)
        return visit.page("status/home_fragment.html", todo=tasks, **state())

    @found.get("/status", roles=STAFF)
    async def whole(visit: Visit) -> web.Response:
        return visit.page("status/status.html", **state())

    @found.get("/status/fragment", roles=STAFF)
    async def whole_fragment(visit: Visit) -> web.Response:
        return visit.page("status/status_fragment.html", **state())

    return found
