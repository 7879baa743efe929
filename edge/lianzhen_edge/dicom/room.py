"""The images' share of the disk: segments and previews.

A segment is let go of when the hub has every image in it, by its receipt; the oldest first, and
only while the share is short. Previews stay. What nobody else has is never touched: then the share
is full, and a sender is refused (A700) and keeps its images.
"""

import asyncio
import contextlib
import math
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.settings import Settings
from lianzhen_protocol import imaging
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import SAFE, Instance
from lianzhen_runtime.log import Log

from .arrival import Arrival
from .segments import SEGMENT_BYTES, Found, SegmentReader
from .shelf import Held, Shelf

_UNBOUNDED: Final = 1 << 62
_AHEAD: Final = 4
"""So many segments are kept free, where the share is large enough: a study comes at once."""
_COUNT_SECONDS: Final = 60.0
_log = Log("lianzhen.images")


class ImageShare(NamedTuple):
    """``quota_bytes`` for the folder of images, 0: no bound; the disk keeps ``reserve_bytes``."""

    quota_bytes: int = 0
    reserve_bytes: int = 0
    segment_bytes: int = SEGMENT_BYTES

    @classmethod
    def of(cls, settings: Settings) -> "ImageShare":
        """Of a box. Twice the reserve, so that images never take what the journal lives on."""
        return cls(settings.images_quota_mb << 20, 2 * settings.disk_reserve_mb << 20)

    @property
    def ahead(self) -> int:
        """Bytes that are kept free for what comes next."""
        wanted = _AHEAD * self.segment_bytes
        return min(wanted, self.quota_bytes // _AHEAD) if self.quota_bytes else wanted

    def left(self, folder: Path, free: int) -> int:
        """Bytes that images may still take, of a disk with so many free ones."""
        return self.rest(used(folder), free)

    def rest(self, taken: int, free: int) -> int:
        """The same where it is known how much they take."""
        quota = self.quota_bytes - taken if self.quota_bytes else _UNBOUNDED
        return min(quota, free - self.reserve_bytes)


def used(folder: Path, *, below: bool = True) -> int:
    """Bytes of all that lies there, and in folders below; 0 for a folder that is not."""
    found = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                if not entry.is_dir(follow_symlinks=False):
                    found += entry.stat().st_size
                elif below:
                    found += used(Path(entry))
    return found


class ImageRoom:
    """Keeps a share's segments few enough. On the loop; files are read beside it."""

    def __init__(
        self, folder: Path, journal: Journal, reader: SegmentReader, share: ImageShare
    ) -> None:
        self._folder, self._journal, self._reader = folder, journal, reader
        self.share = share
        self._counted_at, self._below = -math.inf, 0

    def left(self) -> int:
        """Bytes that images may still take."""
        found = os.statvfs(self._folder)
        return self.share.rest(self.used(), found.f_bavail * found.f_frsize)

    def used(self) -> int:
        """Bytes that they take. Previews are many and small: they are counted now and then."""
        own, now = used(self._folder, below=False), time.monotonic()
        if now - self._counted_at > _COUNT_SECONDS:
            self._counted_at, self._below = now, used(self._folder) - own
        return own + self._below

    @property
    def full(self) -> bool:
        """Whether no segment can be made any more."""
        return self.left() < self.share.segment_bytes

    async def make(self) -> int:
        """How many segments went. One goes only if the hub has all that it holds."""
        gone = 0
        for number in self._reader.segments()[:-1]:  # the newest keeps its number from coming again
            if await asyncio.to_thread(self.left) > self.share.ahead:
                break
            if not await self._may_go(number):
                continue
            await asyncio.to_thread(self._reader.remove, number)
            _log.info("segment recycled", position=number)
            gone += 1
        return gone

    async def _may_go(self, number: int) -> bool:
        if self._reader.in_use(number) or not self._safe_by_journal(number):
            return False
        found = await asyncio.to_thread(lambda: list(self._reader.scan(number)))
        if not found and not await asyncio.to_thread(self._reader.opens, number):
            return False  # damaged, and perhaps not empty: for a person
        # A full journal is told of nothing more, and what it was not told was acknowledged too.
        strange = [each for each in found if not self._at_hub(each)]
        return not await asyncio.to_thread(lambda: any(map(self._is_whole, strange)))

    def _safe_by_journal(self, number: int) -> bool:
        """Whether every image that the journal knows in a segment is at the hub, by its receipt."""
        sheets = self._journal.sheets
        shelves = sheets.find(Shelf, owner=f"{number:08d}", limit=100_000)
        found = [sheets.get(Instance, shelf.id) for shelf in shelves]
        held = sheets.find(Held, owner=f"{number:08d}", limit=1)
        return not held and all(each is not None and each.state == SAFE for each in found)

    def _at_hub(self, found: Found) -> bool:
        if found.held:
            return False
        try:
            arrival = msgspec.msgpack.decode(found.meta, type=Arrival)
        except msgspec.DecodeError:
            return False  # of another release: not ours to judge
        key = imaging.instance_key(self._journal.node, arrival.sha256)
        image = self._journal.sheets.get(Instance, key)
        return image is not None and image.state == SAFE

    def _is_whole(self, found: Found) -> bool:
        """What a crash tore was never acknowledged."""
        try:
            self._reader.body(found.place)
        except SealBroken:
            return False
        return True
