"""Images on their way to the hub: resumable, content-checked, for ever tried again.

As in tus: HEAD says how much of it the hub has, PATCH adds the next chunk at that offset. What is
asked and answered is idempotent, so whatever is cut, at most one chunk goes twice. What is still
to be sent stands in the journal; that the hub has an image is believed only from its receipt,
which is a record. Previews go before originals.
"""

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple, Protocol

import aiohttp
import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import SENT, STORED, UPLOAD_PATH, Instance
from lianzhen_runtime.log import Log
from lianzhen_runtime.retry import pause

from .shelf import READY, TOLD, Shelf

CHUNK_BYTES: Final = 256 << 10
TIMEOUT_SECONDS: Final = 60.0
RECHECK_SECONDS: Final = 30.0
"""So often the hub is asked again about what it has and gave no receipt for."""
_BATCH: Final = 50
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


class Uploader:
    """One service. ``line`` is asked at each new session, as certificates are renewed."""

    def __init__(self, journal: Journal, source: Source, line: Callable[[], Line]) -> None:
        self._journal = journal
        self._source = source
        self._line = line
        self._wake = asyncio.Event()
        self._broken: set[str] = set()
        self._asked: set[str] = set()
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
            while await self._step(Put(session)):
                _log.transition("image upload", "goes on")
        self._wake.clear()
        if self._previews() or self._originals():
            return
        try:
            async with asyncio.timeout(RECHECK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            self._asked.clear()

    def _previews(self) -> list[Shelf]:
        found = self._journal.sheets.find(Shelf, state=READY, limit=_BATCH + len(self._broken))
        return [shelf for shelf in found if shelf.id not in self._broken][:_BATCH]

    def _originals(self) -> list[Instance]:
        limit = _BATCH + len(self._broken) + len(self._asked)
        sheets = self._journal.sheets
        found = sheets.find(Instance, state=STORED, limit=limit)
        found += sheets.find(Instance, state=SENT, limit=limit)
        return [i for i in found if i.id not in self._broken and i.id not in self._asked][:_BATCH]

    async def _step(self, put: "Put") -> bool:
        """Send previews, or one original; False when there is nothing to send."""
        if previews := self._previews():
            for shelf in previews:
                await self._guarded(shelf.id, partial(self._preview, put, shelf))
            return True
        for instance in self._originals()[:1]:
            await self._guarded(instance.id, partial(self._original, put, instance))
            return True
        return False

    async def _guarded(self, key: str, send: Callable[[], Awaitable[None]]) -> None:
        """The boundary of one image: what is wrong with it stops no other."""
        try:
            await send()
        except (SealBroken, FileNotFoundError, Refused) as error:
            _log.error("an image cannot be sent", code=getattr(error, "code", "image-missing"))
            self._broken.add(key)

    async def _preview(self, put: "Put", shelf: Shelf) -> None:
        content = await self._source.preview(shelf.id)
        await put.content(f"{UPLOAD_PATH}/{shelf.id}/preview", content)

        def work(book: Book) -> None:
            if (found := book.get(Shelf, shelf.id)) is not None and found.preview == READY:
                book.put(msgspec.structs.replace(found, preview=TOLD))

        await self._journal.transact(work)

    async def _original(self, put: "Put", instance: Instance) -> None:
        shelf = self._journal.sheets.get(Shelf, instance.id)
        if shelf is None:
            raise FileNotFoundError(instance.id)
        content = await self._source.original(shelf)
        await put.content(f"{UPLOAD_PATH}/{instance.id}/original", content)
        self._asked.add(instance.id)

        def work(book: Book) -> None:
            found = book.get(Instance, instance.id)
            if found is not None and found.state == STORED:  # the receipt may be here already
                book.put(msgspec.structs.replace(found, state=SENT))

        await self._journal.transact(work)


class Refused(Exception):
    """The hub will not have it: ``code`` is its reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Problem(msgspec.Struct):
    code: str = "unknown"


_PATIENCE: Final = frozenset({404, 408, 409, 412, 423, 425, 429})
"""404: the manifest has not come to the hub yet; 409: somebody else was there; ask again."""


class Put:
    """Puts one content under one path of the hub."""

    def __init__(self, session: aiohttp.ClientSession, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._session = session
        self._chunk = chunk_bytes

    async def content(self, path: str, content: bytes) -> None:
        """Return when the hub says that it has all of it. HubAway or Refused otherwise."""
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
        if answer.status >= 500 or answer.status in _PATIENCE or not body:
            raise HubAway(f"the hub asks for patience (HTTP {answer.status})")
        try:
            raise Refused(msgspec.json.decode(body, type=_Problem).code)
        except msgspec.DecodeError as error:
            raise HubAway(f"something else than the hub answers ({answer.status})") from error
