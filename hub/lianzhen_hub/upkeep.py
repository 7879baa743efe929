"""Keeps the database's growing tables: months ahead, hour by hour, and what is due leaves daily."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from lianzhen_runtime.log import Log

from .retention import Retention
from .store import months

if TYPE_CHECKING:
    from .hub import Hub

_SECONDS: Final = 3600.0
_BUSY_SECONDS: Final = 60.0
_RETENTION_SECONDS: Final = 86_400.0
_log = Log("lianzhen.upkeep")


class Upkeep:
    """``run`` is a service for ``supervised``."""

    def __init__(self, hub: "Hub") -> None:
        settings = hub.settings
        self._hub = hub
        self._retention = Retention(
            hub.database, settings.retention_log_days, settings.retention_notices_days
        )
        self._due = 0.0
        self.strays: dict[str, int] = {}
        """Rows of each table that lie in no month."""

    async def run(self) -> None:
        """For ever."""
        while True:
            done = await self.once()
            await asyncio.sleep(_SECONDS if done else _BUSY_SECONDS)

    async def once(self) -> bool:
        """Do what is due; False if somebody held the tables."""
        try:
            made = await self._hub.database.write(self._ahead)
            if time.monotonic() >= self._due and not self._hub.backups.busy:
                await self._retain()
                self._due = time.monotonic() + _RETENTION_SECONDS
        except OperationalError as error:
            _log.transition("months", "wait", bad=True, error=type(error.orig).__name__)
            return False
        _log.transition("months", "are there")
        if made:
            _log.info("months made", count=len(made))
        return True

    async def _retain(self) -> None:
        removed = await self._retention.once(self._hub.now_ms())
        if removed.runs:
            await self._hub.transact(lambda page: page.audit("hub", "remove", "log/retention"))
        if any(removed):
            _log.info("old rows left", records=sum(removed), count=removed.runs)

    def _ahead(self, db: Connection) -> list[str]:
        now_ms = self._hub.now_ms()
        made = months.keep_ahead(db, now_ms)
        self.strays = months.tell_strays(db, now_ms)
        return made
