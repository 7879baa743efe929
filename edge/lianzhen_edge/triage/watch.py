"""Suggestions that nobody asked for: whenever a patient's vitals have changed."""

import asyncio
from typing import Final

from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.vitals import Vitals
from lianzhen_runtime.log import Log

from .desk import TriageDesk

ROUND_SECONDS: Final = 1.0
_log = Log("lianzhen.triage.watch")


class Watch:
    """A service: looks at every patient whose vitals changed, each at most once a round."""

    def __init__(self, journal: Journal, desk: TriageDesk, seconds: float = ROUND_SECONDS) -> None:
        self._desk = desk
        self._seconds = seconds
        self._changed: set[str] = set()
        self._bell = asyncio.Event()
        journal.on_change(self._heard)

    def _heard(self, sheets: set[tuple[str, str]]) -> None:
        if found := {key for kind, key in sheets if kind == Vitals.SHEET}:
            self._changed |= found
            self._bell.set()

    async def run(self) -> None:
        """For as long as the box runs."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            changed, self._changed = self._changed, set()
            for subject_id in sorted(changed):
                try:
                    await self._desk.look(subject_id)
                except Exception:  # noqa: BLE001 - one patient's fault must not keep back the others
                    _log.error("no suggestion was made", exc_info=True)
            await asyncio.sleep(self._seconds)
