"""Drives the projector: one for a hub, however many take in (decision 17).

What records mean meets in sheets, accounts and audit logs that belong to no box, so it is one
writer's work, in the order of the log. Taking in is what grows with the fleet.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final

from sqlalchemy import Connection

from lianzhen_hub.store.database import Database
from lianzhen_protocol.identity import NodeId

from .projector import CHUNK, Projector, Step
from .quarantine import Quarantine
from .status import IngestStatus

_GAP_SECONDS: Final = 0.05
"""How long to wait for a transaction that may still put something before what we see."""


class Projection:
    """``run`` is a service for ``supervised``; ``logged`` wakes it."""

    def __init__(
        self,
        database: Database,
        projector: Projector,
        quarantine: Quarantine,
        clock: Callable[[], float],
        changed: Callable[[Collection[tuple[str, str]]], None],
        told: Callable[[Collection[NodeId]], Awaitable[None]],
    ) -> None:
        self._database = database
        self._projector = projector
        self.quarantine = quarantine
        self._clock = clock
        self._changed = changed
        self._told = told
        self._more = asyncio.Event()
        self.status = IngestStatus()

    def logged(self) -> None:
        """There is more in the log."""
        self._more.set()

    async def run(self) -> None:
        """Apply the log to what is made of it, for ever."""
        await self._try_again()
        self._more.set()
        while True:
            await self._more.wait()
            self._more.clear()
            while (step := await self.carry_out(self._step)).rows or step.waits:
                if not step.rows:
                    await asyncio.sleep(_GAP_SECONDS)

    async def carry_out(self, work: Callable[[Connection], Step]) -> Step:
        """One transaction of the projection, or a decision about the quarantine: count it, and
        tell whom it concerns.
        """
        step = await self._database.write(work)
        self.status.applied += step.applied
        self.status.quarantined += step.quarantined
        if step.quarantined or not step.rows:
            self.status.held = await self._database.read(self.quarantine.count)
        self._changed(step.changed)
        await self._told(step.told)
        return step

    async def _try_again(self) -> None:
        """What an earlier release could not apply, and this one can, leaves quarantine."""
        waiting = await self._database.read(self.quarantine.waiting)
        for at in range(0, len(waiting), CHUNK):
            few = waiting[at : at + CHUNK]
            again = partial(self.quarantine.try_again, places=few, now_ms=self._now_ms())
            await self.carry_out(again)

    def _step(self, db: Connection) -> Step:
        return self._projector.step(db, self._now_ms())

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
