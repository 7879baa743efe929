"""What is made of images after the acknowledgement, in processes that yield to everything else.

Previews for all, the worst case's first, and packed forms for the line when their turn comes. The
workers are nice (10); when an alarm begins to ring they are stopped within the image, until its
records are written and away. Whoever needs the processor for longer, as a call does, says ``hold``.
"""

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import Final

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.alarms import Alarm, AlarmState
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import Instance
from lianzhen_runtime.packing import MAX_BYTES
from lianzhen_runtime.preview import NoPreview, PreviewWorker

from .order import Order
from .previews import Previews
from .room import ImageRoom
from .segments import Place, SegmentReader
from .shelf import NEW, NONE, READY, Shelf

YIELD_SECONDS: Final = 5.0
"""After an alarm began to ring."""
_SHORT_SECONDS: Final = 2.0
_BATCH: Final = 20
_RANG: Final = 1000
_KEPT_BYTES: Final = 64 << 20
_SMALLEST: Final = 4096


class Preparation:
    """``run`` and ``watch`` are services."""

    def __init__(
        self, journal: Journal, reader: SegmentReader, previews: Previews, room: ImageRoom
    ) -> None:
        self._journal, self._reader = journal, reader
        self._previews, self._room = previews, room
        self.order = Order(journal)
        self._worker, self._packer = PreviewWorker(), PreviewWorker()
        self._shown, self._rings = asyncio.Event(), asyncio.Event()
        self._rang: OrderedDict[str, None] = OrderedDict()
        self._kept: OrderedDict[str, bytes | None] = OrderedDict()
        journal.on_change(self._changed)

    def _changed(self, sheets: set[tuple[str, str]]) -> None:
        if any(kind == Shelf.SHEET for kind, _ in sheets):
            self._shown.set()
        for kind, key in sheets:
            if kind == Alarm.SHEET:
                self._alarm(key)

    def _alarm(self, key: str) -> None:
        """An alarm that begins to ring; what becomes of one later needs no room of ours."""
        alarm = self._journal.sheets.get(Alarm, key)
        if alarm is None or alarm.state is not AlarmState.RINGING or key in self._rang:
            return
        self._rang[key] = None
        while len(self._rang) > _RANG:
            self._rang.popitem(last=False)
        self._rings.set()

    async def watch(self) -> None:
        """Hold the workers while an alarm has just begun to ring."""
        while True:
            await self._rings.wait()
            self.hold()
            try:
                while self._rings.is_set():
                    self._rings.clear()
                    await asyncio.sleep(YIELD_SECONDS)
            finally:
                self.go_on()

    def hold(self) -> None:
        """Stop at once: somebody needs processor and line."""
        for worker in (self._worker, self._packer):
            worker.hold()

    def go_on(self) -> None:
        """Take up the work again."""
        for worker in (self._worker, self._packer):
            worker.go_on()

    # -- previews

    async def run(self) -> None:
        """For each image a preview: the worst case's first, else the oldest."""
        try:
            while True:
                self._shown.clear()
                if await asyncio.to_thread(self._room.left) <= 0:
                    await asyncio.sleep(_SHORT_SECONDS)
                    continue
                found = self._next()
                for shelf in found:
                    await self._make_preview(shelf)
                if not found:
                    await self._shown.wait()
        finally:
            await self._worker.close()
            await self._packer.close()

    def _next(self) -> list[Shelf]:
        """A few that have no preview yet."""
        sheets = self._journal.sheets
        first = (sheets.get(Shelf, key) for key in self.order.first())
        urgent = (shelf for shelf in first if shelf is not None and shelf.preview == NEW)
        return list(islice(urgent, _BATCH)) or sheets.find(Shelf, state=NEW, limit=_BATCH)

    async def _make_preview(self, shelf: Shelf) -> None:
        try:
            file = await asyncio.to_thread(self._reader.body, Place(shelf.segment, shelf.offset))
            jpeg = await self._worker.render(file)
            await asyncio.to_thread(self._previews.write, shelf.id, jpeg)
        except (NoPreview, SealBroken, FileNotFoundError) as error:
            state, why, size = NONE, str(error) if isinstance(error, NoPreview) else "gone", 0
        else:
            state, why, size = READY, "", len(jpeg)

        def work(book: Book) -> None:
            book.put(msgspec.structs.replace(shelf, preview=state, why=why))
            if size and (instance := book.get(Instance, shelf.id)) is not None:
                book.put(msgspec.structs.replace(instance, preview=size))

        await self._journal.transact(work)

    # -- packed forms

    async def packed(self, shelf: Shelf, file: bytes) -> bytes | None:
        """The form for the line, proved to give ``file`` back; None where it goes as it is.

        Kept in memory for a while, as a line that is cut asks again and again.
        """
        if shelf.id not in self._kept:
            fits = _SMALLEST <= len(file) <= MAX_BYTES
            self._keep(shelf.id, await self._packer.pack(file) if fits else None)
        return self._kept[shelf.id]

    def plain(self, key: str) -> None:
        """The hub will not have this one packed."""
        self._keep(key, None)

    def _keep(self, key: str, packed: bytes | None) -> None:
        self._kept[key] = packed
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(len(each or b"") for each in self._kept.values()) > (
            _KEPT_BYTES
        ):
            self._kept.popitem(last=False)
