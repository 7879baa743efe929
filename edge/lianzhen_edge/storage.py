"""How full the box is: the shares of journal, images and log, and the alarm when one is used up.

The alarm is latched like any other, and its record uses the reserve: it is never lost because of
what it tells. Pages show the same from memory, for a disk that does not even take that.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from lianzhen_protocol import alarms
from lianzhen_protocol.alarms import AlarmRaised, Condition, EndReason
from lianzhen_runtime.log import Log
from lianzhen_runtime.logfile import FOLDER as LOGS

from .devices.watch import act
from .dicom.room import ImageRoom, used
from .journal.book import Book
from .journal.errors import JournalFull
from .journal.journal import Journal
from .settings import Settings

TICK_SECONDS: Final = 2.0
DISK, JOURNAL, IMAGES = "disk-full", "journal-full", "images-full"
CAUSES: Final = (DISK, JOURNAL, IMAGES)
"""Of the alarm: what is used up."""

_log = Log("lianzhen.storage")


class Share(msgspec.Struct, frozen=True):
    """One part of what lies on the disk, in bytes. ``quota`` 0: it is bounded by the disk alone."""

    name: str
    used: int
    quota: int
    full: bool
    """It takes no more now."""


class StorageState(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    free: int
    """On the disk of the state folder, for everybody."""
    reserve: int
    shares: tuple[Share, ...]
    causes: tuple[str, ...] = ()
    """What keeps something from being stored."""


class Storage:
    """``watch`` is a service; the rest is asked by pages and probes."""

    def __init__(
        self,
        settings: Settings,
        journal: Callable[[], Journal],
        images: Callable[[], ImageRoom],
    ) -> None:
        self._settings, self._journal, self._images = settings, journal, images
        self.state: StorageState | None = None
        """As it was at the last look; None before the first one."""

    @property
    def causes(self) -> tuple[str, ...]:
        """What keeps something from being stored just now."""
        return self.state.causes if self.state else ()

    async def watch(self) -> None:
        """Look, and let the alarm follow, for ever. The faults of a full disk are its business."""
        while True:
            self.state = await self._look()
            state = " and ".join(self.causes) or "takes everything"
            _log.transition("storage", state, bad=bool(self.causes), free_bytes=self.state.free)
            # Where not even the reserve is left, pages tell it from memory, and it is tried on.
            with contextlib.suppress(JournalFull):
                await self._alarm()
            await asyncio.sleep(TICK_SECONDS)

    async def _alarm(self) -> None:
        journal, causes = self._journal(), self.causes
        if causes or alarms.active_alarm(journal.sheets, Condition.STORAGE, ""):
            await journal.transact(lambda book: judge(book, causes))

    async def _look(self) -> StorageState:
        room, images = self._journal().room(), self._images()
        settings, folder = self._settings, self._settings.folder
        kept, full = await asyncio.to_thread(lambda: (images.used(), images.full))
        free = _free(folder)
        causes = []
        if room.full:
            causes.append(DISK if room.disk else JOURNAL)
        if full and settings.dicom_port:
            causes.append(IMAGES)
        return StorageState(
            free=free,
            reserve=settings.disk_reserve_mb << 20,
            shares=(
                Share("journal", room.used, settings.journal_quota_mb << 20, room.full),
                Share("images", kept, settings.images_quota_mb << 20, full),
                Share("log", used(folder / LOGS), settings.log_quota_mb << 20, False),
            ),
            causes=tuple(causes),
        )


def judge(book: Book, causes: tuple[str, ...]) -> None:
    """The alarm of a box that is full: raised, raised again for another cause, ended when over."""
    active = alarms.active_alarm(book, Condition.STORAGE, "")
    about = partial(
        AlarmRaised,
        condition=Condition.STORAGE,
        patient_id="",
        measured_ms=book.now_ms,
        raised_ms=book.now_ms,
    )
    act(book, active, alarms.storage(causes), about, EndReason.OVER)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
