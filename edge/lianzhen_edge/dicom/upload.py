"""Images on their way to the hub: resumable, content-checked, for ever tried again.

As in tus: HEAD says how much of it the hub has, PATCH adds the next chunk at that offset. What is
asked and answered is idempotent, so whatever is cut, at most one chunk goes twice. What is still
to be sent stands in the journal; that the hub has an image is believed only from its receipt,
which is a record. Previews go before originals.
"""

import asyncio
import contextlib
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

import aiohttp
import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import SAFE, SENT, STORED, UPLOAD_PATH, Instance
from lianzhen_runtime.log import Log
from lianzhen_runtime.retry import pause

from .shelf import READY, TOLD, Shelf

CHUNK_BYTES: Final = 256 << 10
TIMEOUT_SECONDS: Final = 60.0
RECHECK_SECONDS: Final = 30.0
"""So often the hub is asked again about what it has and gave no receipt for."""
_BATCH: Final = 50
_MOST_PUT_OFF: Final = 1000
_JUST_DUE_S: Final = 1.0
_log = Log("lianzhen.upload")


class HubAway(OSError):
    """No answer that makes sense, or one that asks for patience; another try may do."""

    code = "hub-away"


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


class Uploader:
    """One service. ``line`` is asked at each new session, as certificates are renewed."""

    def __init__(self, journal: Journal, source: Source, line: Callable[[], Line]) -> None:
        self._journal = journal
        self._source = source
        self._line = line
        self._wake = asyncio.Event()
        self._previews_later, self._originals_later = Patience(), Patience()
        journal.on_change(self._changed)

    def _changed(self, sheets: set[tuple[str, str]]) -> None:
        if any(kind in (Shelf.SHEET, Instance.SHEET) for kind, _ in sheets):
            self._wake.set()

    async def run(self) -> None:
        """Send whatever is to be sent, until cancelled."""
        attempt = 0
        while True:
            try:
                await self._session()
            except HubAway as away:
                _log.transition("image upload", "waits for the hub", bad=True, code=away.code)
                await asyncio.sleep(pause(attempt, base=0.5, cap=10.0))
                attempt += 1
            else:
                attempt = 0

    async def _session(self) -> None:
        """As long as the line lasts and there is work; then wait for more."""
        line = self._line()
        async with aiohttp.ClientSession(
            line.url,
            connector=aiohttp.TCPConnector(ssl=line.context, limit=2),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        ) as session:
            self._wake.clear()
            while await self._step(Put(session)):
                _log.transition("image upload", "goes on")
                self._wake.clear()
        waits = (self._previews_later, self._originals_later)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(each.next_s(RECHECK_SECONDS) for each in waits)):
                await self._wake.wait()

    async def _step(self, put: "Put") -> bool:
        """Send previews, or one original; False when nothing is due."""
        later = self._previews_later
        shelves = self._journal.sheets.find(Shelf, state=READY, limit=_BATCH + len(later))
        if previews := [shelf for shelf in shelves if later.is_due(shelf.id)]:
            for shelf in previews[:_BATCH]:
                await self._guarded(later, shelf.id, self._preview(put, shelf))
            return True
        for instance in self._originals():
            await self._guarded(self._originals_later, instance.id, self._original(put, instance))
            return True
        return False

    def _originals(self) -> list[Instance]:
        """One that is due, those that never went before those that lack their receipt."""
        later, sheets = self._originals_later, self._journal.sheets
        for state in (STORED, SENT):
            found = sheets.find(Instance, state=state, limit=1 + len(later))
            if due := [instance for instance in found if later.is_due(instance.id)]:
                return due[:1]
        return []

    async def _guarded(self, later: Patience, key: str, sending: Awaitable[None]) -> None:
        """The boundary of one image: what is wrong with it stops no other."""
        try:
            await sending
        except NotYet:
            later.put_off(key, base=0.2, cap=60.0)
        except (SealBroken, FileNotFoundError, Refused) as error:
            _log.error("an image cannot be sent", code=getattr(error, "code", "image-missing"))
            later.put_off(key, base=60.0, cap=3600.0)

    async def _preview(self, put: "Put", shelf: Shelf) -> None:
        content = await self._source.preview(shelf.id)
        await put.content(f"{UPLOAD_PATH}/{shelf.id}/preview", content)

        def work(book: Book) -> None:
            if (found := book.get(Shelf, shelf.id)) is not None and found.preview == READY:
                book.put(msgspec.structs.replace(found, preview=TOLD))

        await self._journal.transact(work)
        self._previews_later.done(shelf.id)

    async def _original(self, put: "Put", instance: Instance) -> None:
        shelf = self._journal.sheets.get(Shelf, instance.id)
        if shelf is None:
            raise FileNotFoundError(instance.id)
        content = await self._source.original(shelf)
        await put.content(f"{UPLOAD_PATH}/{instance.id}/original", content)

        def work(book: Book) -> bool:
            found = book.get(Instance, instance.id)
            if found is not None and found.state == STORED:
                book.put(msgspec.structs.replace(found, state=SENT))
            return found is None or found.state == SAFE  # the receipt may be here already

        self._originals_later.done(instance.id)
        if not await self._journal.transact(work):
            # Asked again, until the receipt has come.
            self._originals_later.put_off(instance.id, base=RECHECK_SECONDS, cap=600.0)


class NotYet(Exception):
    """The hub does not know this image yet: its manifest is on its way."""


class Refused(Exception):
    """The hub will not have it: ``code`` is its reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Problem(msgspec.Struct):
    code: str = "unknown"


_PATIENCE: Final = frozenset({401, 403, 408, 409, 412, 423, 425, 429})
"""Of the line or the moment, not of the image: a certificate that is being renewed, a chunk that
somebody else sent."""


class Put:
    """Puts one content under one path of the hub."""

    def __init__(self, session: aiohttp.ClientSession, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._session = session
        self._chunk = chunk_bytes

    async def content(self, path: str, content: bytes) -> None:
        """Return when the hub says that it has all of it. NotYet, HubAway or Refused otherwise."""
        headers = {
            "Upload-Length": str(len(content)),
            "Upload-Digest": hashlib.sha256(content).hexdigest(),
        }
        offset = await self._call("HEAD", path, headers, None)
        while True:
            chunk = content[offset : offset + self._chunk]
            sent = headers | {"Upload-Offset": str(offset)}
            offset = await self._call("PATCH", path, sent, chunk)
            if offset >= len(content):
                return

    async def _call(
        self, method: str, path: str, headers: dict[str, str], chunk: bytes | None
    ) -> int:
        try:
            async with self._session.request(
                method, path, headers=headers, data=chunk, allow_redirects=False
            ) as answer:
                body = await answer.read()
                if answer.status < 300:
                    return int(answer.headers["Upload-Offset"])
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
            raise HubAway(f"the hub does not answer: {type(error).__name__}") from error
        if answer.status == 404:
            raise NotYet
        if answer.status >= 500 or answer.status in _PATIENCE:
            raise HubAway(f"the hub asks for patience (HTTP {answer.status})")
        if method == "HEAD" and answer.status == 422:  # it has no body
            raise Refused("upload-differs")
        try:
            raise Refused(msgspec.json.decode(body, type=_Problem).code)
        except msgspec.DecodeError as error:
            raise HubAway(f"something else than the hub answers ({answer.status})") from error
