"""The journal's share of the disk, and the reserve in it that an alarm or a mere look may use.

::

    ordinary work    until the quota is used, or the disk's free bytes come down to the reserve
    alarms, looks    until a quarter of the reserve is left: a full disk is told, and can be read
    deletes, marks   always: they are what makes room again

Bytes that are free within the file count as free: SQLite takes those first.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

_NO_QUOTA: Final = 1 << 62
_SMALL: Final = 64 << 10
"""What hardly any piece of work writes more than: with less left it is full."""
_FLOOR: Final = 4
"""The last part of the reserve, one in so many, is for deletes alone."""


class Extent(NamedTuple):
    """Of the journal's file, in bytes; its write-ahead log is a few MB beside it."""

    size: int
    free: int


class Room(NamedTuple):
    """Bytes that may still be written; none where a figure is not above 0."""

    ordinary: int
    reserved: int
    """By alarms, audit rows, and changes to what is there."""
    used: int
    """By the journal's file, less what is free within it."""
    disk: bool
    """Whether the disk is what bounds it, and not the quota."""

    @property
    def full(self) -> bool:
        """Whether ordinary work is refused."""
        return self.ordinary < _SMALL

    @property
    def sentence(self) -> str:
        """Why nothing was stored."""
        if self.disk:
            return "the disk is full: nothing was stored; make space and try again"
        return (
            "the journal's share of the disk is full: nothing was stored; it empties as the hub "
            "takes what waits, or raise journal_quota_mb"
        )


class Share(NamedTuple):
    """``quota_bytes`` for the journal's file, 0: no bound; the disk keeps ``reserve_bytes``."""

    quota_bytes: int = 0
    reserve_bytes: int = 0

    def room(self, folder: Path, extent: Extent) -> Room:
        """What is left for a journal that lies in ``folder``."""
        found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize + extent.free
        used = extent.size - extent.free
        quota = self.quota_bytes - used if self.quota_bytes else _NO_QUOTA
        reserve, floor = self.reserve_bytes, self.reserve_bytes // _FLOOR
        return Room(
            min(free - reserve, quota),
            min(free - floor, quota + reserve - floor),
            used,
            free - reserve <= quota,
        )


UNBOUNDED: Final = Share()
"""The whole disk."""
