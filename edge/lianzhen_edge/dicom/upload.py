"""Images on their way to the hub: resumable, content-checked, for ever tried again.

As in tus: HEAD says how much of it the hub has, PATCH adds the next chunk at that offset. What is
asked and answered is idempotent, and of a chunk that was cut off the hub keeps what came, so
whatever is cut, less than a chunk goes twice. What is still to be sent stands in the journal; that
the hub has an image is believed only from its receipt, which is a record. Previews go before
originals, and originals go packed (``runtime/packing.py``): the hub has their hash.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, NamedTuple, Protocol

import aiohttp
import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import SAFE, SENT, STORED, UPLOAD_PATH, Instance
from lianzhen_runtime.flow import Flow
from lianzhen_runtime.log import Log
from lianzhen_runtime.retry import pause

from .order import Order
from .pace import Pace
from .put import HubAway, NotYet, Put, Refused
from .shelf import READY, TOLD, Shelf

TIMEOUT_SECONDS: Final = 60.0
RECHECK_SECONDS: Final = 30.0
"""So often the hub is asked again about what it has and gave no receipt for."""
AT_ONCE: Final = 2
"""While one waits for the hub's answer another is on the way."""
LARGE_BYTES: Final = 16 << 20
"""Of images that are larger only one at a time is held in memory."""
_OFTEN_TRIES: Final = 60
"""So many times a line that leads nowhere is tried every second; then less often."""
_MOST_PUT_OFF: Final = 1000
_JUST_DUE_S: Final = 1.0
_log = Log("lianzhen.upload")


class Line(NamedTuple):
    """Where the hub is, and how we show it who we are."""

    url: str
    context: ssl.SSLContext


class Source(Protocol):
    """Where the bytes come from; SealBroken or FileNotFoundError if they are not there."""

    async def original(self, shelf: Shelf) -> bytes:
        """The Part 10 file."""

    async def preview(self, key: str) -> bytes:
        """The JPEG."""

    async def packed(self, shelf: Shelf, file: bytes) -> bytes | None:
        """The original's form for the line; None where it goes as it is."""

    def plain(self, key: str) -> None:
        """The hub will not have this one packed."""


class Patience:
    """Whose turn is later, each by its own backoff, so that nobody stands in another's way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._later: dict[str, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._later)

    def put_off(self, key: str, *, base: float, cap: float) -> None:
        """Not before a while; longer each time."""
        attempt = self._later[key][0] + 1 if key in self._later else 0
        if len(self._later) >= _MOST_PUT_OFF:  # most of them have gone well by now
            now = self._clock()
            self._later = {k: each for k, each in self._later.items() if each[1] > now}
        self._later[key] = attempt, self._clock() + pause(attempt, base=base, cap=cap)

    def done(self, key: str) -> None:
        """It went well."""
        self._later.pop(key, None)

    def is_due(self, key: str) -> bool:
        """Whether it may be tried."""
        return key not in self._later or self._later[key][1] <= self._clock()

    def next_s(self, most: float) -> float:
        """Seconds until somebody is due, at most ``most``."""
        now = self._clock()
        dues = [due - now for _, due in self._later.values()]
        return min([most, *(max(due, 0.0) for due in dues if due > -_JUST_DUE_S)])


class _Job(NamedTuple):
    """One content that is due, and whose turn is later if it fails."""

    later: Patience
    shelf: Shelf
    instance: Instance | None
    """Of an original."""

    @property
    def key(self) -> str:
        """For one at a time."""
        return f"{self.shelf.id}/{'preview' if self.instance is None else 'original'}"

    @property
    def is_large(self) -> bool:
        """Whether it has the memory for itself."""
        return self.instance is not None and self.instance.size > LARGE_BYTES


class Uploader:
    """One service. ``line`` is asked at each new session, as certificates are renewed."""

    def __init__(
        self, journal: Journal, source: Source, line: Callable[[], Line], order: Order
    ) -> None:
        self._journal = journal
        self._source = source
        self._line = line
        self._order = order
        self._wake = asyncio.Event()
        self.flow = Flow()
        """Bytes of previews and originals that the hub took."""
        self._previews_later, self._originals_later = Patience(), Patience()
        self._pace = Pace(AT_ONCE)
        self._busy: dict[str, _Job] = {}
        self._tried = set[str]()
        self._early = False
        journal.on_change(self._changed)

    def _changed(self, sheets: set[tuple[str, str]]) -> None:
        if any(kind in (Shelf.SHEET, Instance.SHEET) for kind, _ in sheets):
            self._wake.set()

    async def run(self) -> None:
        """Send whatever is to be sent, until cancelled."""
        attempt = 0
        while True:
            before = self._pace.answers
            try:
                await self._session()
            except HubAway as away:
                _log.transition("image upload", "waits for the hub", bad=True, code=away.code)
                attempt = 0 if self._pace.answers > before else attempt + 1
                often = not away.reached and attempt < _OFTEN_TRIES
                await asyncio.sleep(pause(attempt, base=0.5, cap=1.0 if often else 10.0))
            else:
                attempt = 0

    async def _session(self) -> None:
        """As long as the line lasts and there is work; then wait for more."""
        line = self._line()
        connector = aiohttp.TCPConnector(
            ssl=line.context, limit=AT_ONCE, socket_factory=self._pace.new_socket
        )
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(line.url, connector=connector, timeout=timeout) as session:
            put = Put(session, self._pace, self.flow)
            self._wake.clear()
            await self._all_work(put)
        waits = (self._previews_later, self._originals_later)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(each.next_s(RECHECK_SECONDS) for each in waits)):
                await self._wake.wait()

    async def _all_work(self, put: Put) -> None:
        """Side by side; what the line said to one of them, or the fault of one, as it was."""
        try:
            async with asyncio.TaskGroup() as workers:
                working = [workers.create_task(self._work(put)) for _ in range(AT_ONCE)]
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from faults
        for worker in working:
            if (away := worker.result()) is not None:
                raise away

    async def _work(self, put: Put) -> HubAway | None:
        """Send one after another while something is due; what the line said, if it ended."""
        while (job := self._due()) is not None:
            self._busy[job.key] = job
            try:
                await self._guarded(put, job)
            except HubAway as away:
                return away
            finally:
                del self._busy[job.key]
            _log.transition("image upload", "goes on")
        return None

    def _due(self) -> _Job | None:
        """A preview that is to be sent; else an original, those that never went first. Of either
        the worst case's before all others."""
        return next((job for job in self._jobs() if job.key not in self._busy), None)

    def _jobs(self) -> Iterator[_Job]:
        """All that is due, in order."""
        sheets, later = self._journal.sheets, self._previews_later
        many = 1 + len(later) + AT_ONCE
        first = (sheets.get(Shelf, key) for key in self._order.first())
        urgent = (shelf for shelf in first if shelf is not None and shelf.preview == READY)
        for shelf in chain(urgent, sheets.find(Shelf, state=READY, limit=many)):
            if later.is_due(shelf.id):
                yield _Job(later, shelf, None)
        for instance in self._unsafe():
            shelf_or_none = sheets.get(Shelf, instance.id)
            if shelf_or_none is None:
                _log.error("an image cannot be sent", code="image-missing")
                self._originals_later.put_off(instance.id, base=60.0, cap=3600.0)
                continue
            job = _Job(self._originals_later, shelf_or_none, instance)
            if not (job.is_large and self._busy):
                yield job

    def _unsafe(self) -> Iterator[Instance]:
        """Originals that are due and of which there is no receipt."""
        sheets, later = self._journal.sheets, self._originals_later
        many = 1 + len(later) + AT_ONCE
        urgent = (sheets.get(Instance, key) for key in self._order.first())
        waiting = (found for found in urgent if found is not None and found.state == STORED)
        rest = (sheets.find(Instance, state=state, limit=many) for state in (STORED, SENT))
        yield from (one for one in chain(waiting, *rest) if later.is_due(one.id))

    async def _guarded(self, put: Put, job: _Job) -> None:
        """The boundary of one image: what is wrong with it stops no other."""
        try:
            if job.instance is None:
                await self._preview(put, job.shelf)
            else:
                await self._original(put, job.shelf, job.instance)
        except NotYet:
            job.later.put_off(job.shelf.id, base=0.2, cap=60.0)
        except (SealBroken, FileNotFoundError, Refused) as error:
            _log.error("an image cannot be sent", code=getattr(error, "code", "image-missing"))
            job.later.put_off(job.shelf.id, base=60.0, cap=3600.0)

    async def _preview(self, put: Put, shelf: Shelf) -> None:
        content = await self._source.preview(shelf.id)
        await self._put(put, f"{UPLOAD_PATH}/{shelf.id}/preview", content)

        def work(book: Book) -> None:
            if (found := book.get(Shelf, shelf.id)) is not None and found.preview == READY:
                book.put(msgspec.structs.replace(found, preview=TOLD))

        await self._journal.transact(work)
        self._previews_later.done(shelf.id)

    async def _put(
        self, put: Put, path: str, content: bytes, digest: str | None = None, known: bool = False
    ) -> None:
        is_new = not known and not self._early and path not in self._tried
        self._tried.add(path)
        try:
            await put.content(path, content, digest, is_new=is_new)
        except NotYet:
            self._early = True  # ask before anything is sent, until manifests are ahead again
            raise
        self._early = False
        self._tried.discard(path)

    async def _packed(self, put: Put, shelf: Shelf, content: bytes) -> bool:
        """Whether the original went in its packed form."""
        packed = await self._source.packed(shelf, content)
        if packed is None:
            return False
        try:
            await self._put(put, f"{UPLOAD_PATH}/{shelf.id}/packed", packed)
        except Refused as error:
            _log.warning("a packed image is refused", code=error.code)
            self._source.plain(shelf.id)
            return False
        return True

    async def _original(self, put: Put, shelf: Shelf, instance: Instance) -> None:
        content = await self._source.original(shelf)
        if instance.state == SENT or not await self._packed(put, shelf, content):
            path = f"{UPLOAD_PATH}/{instance.id}/original"
            await self._put(put, path, content, instance.sha256, instance.state == SENT)

        def work(book: Book) -> bool:
            found = book.get(Instance, instance.id)
            if found is not None and found.state == STORED:
                book.put(msgspec.structs.replace(found, state=SENT))
            return found is None or found.state == SAFE  # the receipt may be here already

        self._originals_later.done(instance.id)
        if not await self._journal.transact(work):
            # Asked again, until the receipt has come.
            self._originals_later.put_off(instance.id, base=RECHECK_SECONDS, cap=600.0)
