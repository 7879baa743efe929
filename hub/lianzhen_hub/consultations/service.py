"""The clockwork of assignment: it sleeps until something changed or a deadline is over."""

import asyncio
from collections.abc import Collection

from lianzhen_hub.hub import Hub
from lianzhen_protocol.consultation import Consultation
from lianzhen_protocol.matching import Expert
from lianzhen_protocol.sheets import Sheets

from . import assignment

_LOOK_MS = 30_000
"""A look now and then: who only asked for the inbox leaves unheard, and clocks are set."""
_KINDS = {Consultation.SHEET, Expert.SHEET}


class Assignments:
    """``run`` it. An expert who is asked has ``accept_seconds`` to accept."""

    def __init__(self, hub: Hub, accept_seconds: float) -> None:
        self._hub = hub
        self._accept_ms = int(accept_seconds * 1000)
        self._bell = asyncio.Event()
        hub.on_change(self._changed)
        hub.presence.on_change(self._bell.set)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._bell.clear()
            await self.step()
            deadline = await self._hub.consult(assignment.next_deadline)
            left = _LOOK_MS if deadline is None else deadline - self._hub.now_ms()
            wait = min(max(0, left), _LOOK_MS) / 1000
            try:
                await asyncio.wait_for(self._bell.wait(), wait)
            except TimeoutError:
                continue

    async def step(self) -> None:
        """Everything that is due now; most changes are no business of ours, so look first."""
        online, now_ms = self._hub.presence.online(), self._hub.now_ms()

        def look(sheets: Sheets) -> bool:
            return assignment.due(sheets, online, now_ms)

        if await self._hub.consult(look):
            await self._hub.transact(lambda page: assignment.step(page, online, self._accept_ms))

    def _changed(self, changed: Collection[tuple[str, str]]) -> None:
        if any(kind in _KINDS for kind, _ in changed):
            self._bell.set()
