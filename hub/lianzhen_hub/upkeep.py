"""Keeps the database's growing tables: months ahead, hour by hour. A service for ``supervised``."""

import asyncio
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from lianzhen_runtime.log import Log

from .store import months
from .store.database import Database

_SECONDS: Final = 3600.0
_BUSY_SECONDS: Final = 60.0
_log = Log("lianzhen.upkeep")


class Upkeep:
    """On the writer's thread, as everything else."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._now_ms = now_ms
        self.strays: dict[str, int] = {}
        """Rows of each table that lie in no month."""

    async def run(self) -> None:
        """For ever."""
        while True:
            done = await self.once()
            await asyncio.sleep(_SECONDS if done else _BUSY_SECONDS)

    async def once(self) -> bool:
        """Make the months that are due; False if somebody held the tables."""
        try:
            made = await self._database.write(self._ahead)
        except OperationalError as error:
            _log.transition("months", "wait", bad=True, error=type(error.orig).__name__)
            return False
        _log.transition("months", "are there")
        if made:
            _log.info("months made", count=len(made))
        return True

    def _ahead(self, db: Connection) -> list[str]:
        now_ms = self._now_ms()
        made = months.keep_ahead(db, now_ms)
        self.strays = months.tell_strays(db, now_ms)
        return made
