"""Suggestions that nobody asked for: whenever a patient's vitals have changed."""

import asyncio
import contextlib
from typing import Final

from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.vitals import Vitals
from lianzhen_runtime.log import Log
from lianzhen_runtime.retry import pause

from .desk import TriageDesk

ROUND_SECONDS: Final = 1.0
_log = Log("lianzhen.triage.watch")


class Watch:
    """A service: looks at every patient whose vitals changed, each at most once a round."""

    def __init__(self, journal: Journal, desk: TriageDesk, seconds: float = ROUND_SECONDS) -> None:
        self._desk = desk
        self._seconds = seconds
        self._changed: set[str] = set()
        self._unanswered: set[str] = set()
        self._bell = asyncio.Event()
        journal.on_change(self._heard)

    def _heard(self, sheets: set[tuple[str, str]]) -> None:
        if found := {key for kind, key in sheets if kind == Vitals.SHEET}:
            self._changed |= found
            self._bell.set()

    async def run(self) -> None:
        """For as long as the box runs.

        Those for whom the model was away are looked at again until it answers: nobody's score
        waits for his next vitals.
        """
        tries, again_at = 0, 0.0
        now = asyncio.get_running_loop().time
        while True:
            await self._news(again_at - now() if self._unanswered else None)
            changed, self._changed = self._changed, set()
            if again := bool(self._unanswered) and now() >= again_at:
                changed |= self._unanswered
            silent = {subject for subject in sorted(changed) if not await self._answered(subject)}
            self._unanswered = (self._unanswered - changed) | silent
            if not self._unanswered:
                tries = 0
            elif again or tries == 0:
                again_at = now() + pause(tries, base=self._seconds)
                tries += 1
            await asyncio.sleep(self._seconds)

    async def _news(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        self._bell.clear()

    async def _answered(self, subject_id: str) -> bool:
        try:
            made = await self._desk.look(subject_id)
        except Exception:  # noqa: BLE001 - one patient's fault must not keep back the others
            _log.error("no suggestion was made", exc_info=True)
            return True
        return made is None or made.forecast is None or not made.forecast.away
