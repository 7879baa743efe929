"""Who looked at whose data: a row in the audit log for each look.

An open page asks for its parts again and again by itself. That is the same look for an hour, if
there was one: whoever only says that they are quiet is written down all the same.
"""

from typing import TYPE_CHECKING, Final

from lianzhen_runtime.web.routes import QUIET, Visit

if TYPE_CHECKING:
    from lianzhen_edge.box import Box

_SAME_LOOK_MS: Final = 3_600_000
_MANY: Final = 10_000


class Reads:
    """Notes looks for one area's pages."""

    def __init__(self, box: "Box") -> None:
        self._box = box
        self._last: dict[tuple[str, str], int] = {}

    async def note(self, visit: Visit, subject: str) -> None:
        """``subject`` is a sheet as ``kind/key``."""
        who, now_ms = visit.actor.id, self._box.clock.now_ms
        quiet = QUIET in visit.request.headers
        if quiet and now_ms - self._last.get((who, subject), 0) < _SAME_LOOK_MS:
            return
        await self._box.journal.transact(lambda book: book.audit(who, "read", subject))
        if len(self._last) >= _MANY:
            self._last.clear()
        self._last[who, subject] = now_ms
