"""Images within the core: who may send, what came, its previews, and its way to the hub.

The scp is the core's child; this is the other end of what it says.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import imaging
from lianzhen_protocol.accounts import CLINICAL
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import (
    ADMITTED,
    REFUSED,
    Instance,
    Scanner,
    ScannerAdmitted,
    ScannerRemoved,
    ScannerSet,
    Study,
)
from lianzhen_protocol.key_images import KeyImage
from lianzhen_runtime.child import Child
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.files import private_folder
from lianzhen_runtime.keys import KeyProvider
from lianzhen_runtime.measurements import Measurement
from lianzhen_runtime.preview import PreviewWorker
from lianzhen_runtime.web.live import Live
from lianzhen_runtime.web.once import Act

from . import calling, waiting
from .arrival import FOLDER, Admissions, Called, Caller, Kept
from .calling import Echo
from .commitments import Commitments
from .intake import Intake
from .preparation import Preparation
from .previews import Previews
from .room import ImageRoom, ImageShare
from .segments import Place, SegmentReader
from .shelf import Held, Shelf
from .upload import Line, Uploader

MAX_REFUSED: Final = 50
"""Strangers that are remembered; the one that called longest ago is forgotten first."""

QUIET_MS: Final = 10_000
"""An admitted caller's last contact is noted no more often than this."""

_PREVIEWS: Final = "previews"
_SHORT_SECONDS: Final = 2.0


class ScannerUnknown(LianzhenError):
    """No modality with this key has called."""

    code = "scanner-unknown"
    http_status = 404


class ScannerNotAdmitted(LianzhenError):
    """Nothing is allowed to a modality that may not even send."""

    code = "scanner-not-admitted"
    http_status = 409


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What a modality may beyond sending, and where it listens; 0: nobody knows."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    may_query: bool = False
    commits_here: bool = False


class Port(Protocol):
    """What a box gives to its images."""

    @property
    def journal(self) -> Journal:
        """The open journal."""

    @property
    def node(self) -> NodeId:
        """Who the box is."""

    @property
    def live(self) -> Live:
        """What open pages are told by."""

    @property
    def keys(self) -> KeyProvider:
        """Key-encryption keys."""

    def child(self, verb: str, *arguments: str) -> Child:
        """Another process of this box."""

    def hub_line(self) -> Line:
        """Where the hub is, with the certificate of now."""


Run = Callable[[], Awaitable[None]]


class Imaging:
    """Made once the journal is open. ``services`` are for the box to run."""

    def __init__(self, box: Port, state: Path, *, port: int, title: str, share: ImageShare) -> None:
        self.port, self.title = port, title
        self._node = box.node
        self._journal = box.journal
        self._keys = box.keys
        self._folder = private_folder(state / FOLDER)
        self._previews = Previews(self._folder / _PREVIEWS, self._keys)
        self._admissions = Admissions(self._folder)
        self._reader = SegmentReader(self._folder, self._keys)
        self.room = ImageRoom(self._folder, self._journal, self._reader, share)
        self.preparation = Preparation(self._journal, self._reader, self._previews, self.room)
        self._viewer = PreviewWorker()
        self.intake = Intake(box.node, self._journal, self._reader)
        self.commitments = Commitments(self._journal, self.intake)
        self.uploader = Uploader(self._journal, self, box.hub_line, self.preparation.order)
        self.scp = box.child("scp")
        self._callers, self._testing = asyncio.Lock(), asyncio.Lock()
        self.tested: dict[str, Echo] = {}
        """What came of the last test of each modality since the start."""
        self._live = box.live
        self._written: list[tuple[str, str]] | None = None
        self._journal.on_change(self._changed)

    def services(self) -> Iterable[tuple[str, Run]]:
        """(name, coroutine function) of all that runs for as long as the box does."""
        yield "images", self.intake.run
        yield "previews", self._prepare
        yield "image alarms", self.preparation.watch
        yield "image upload", self.uploader.run
        yield "image room", self._keep_room
        if self.port:
            yield "scp", self._run_scp

    async def _run_scp(self) -> None:
        self._write_admissions()
        try:
            await self.scp.run()
        finally:
            self.intake.look_again()

    def _changed(self, sheets: set[tuple[str, str]]) -> None:
        kinds = {kind for kind, _ in sheets}
        if Scanner.SHEET in kinds:
            self._write_admissions()
            self._live.tell_soon("modality")
        if kinds & {Study.SHEET, Instance.SHEET, KeyImage.SHEET, Held.SHEET}:
            self._live.tell_soon("imaging", CLINICAL)

    # -- callers

    async def called(self, notice: Called) -> None:
        """A modality called: note when, and remember a stranger so that it can be let in."""
        async with self._callers:  # one after another, as each is read before it is written
            await self._journal.transact(lambda book: note_call(book, notice))

    def kept(self, notice: Kept) -> None:
        """The scp has an image that is durable."""
        self.intake.tell(Place(notice.segment, notice.offset))

    async def admit(self, key: str, actor: str, name: str, act: Act | None = None) -> Scanner:
        """Let a modality in that has called; the list holds when this returns."""
        return await (act or Act()).do(
            self._journal.transact, lambda book: _admit(book, key, actor, name), Scanner
        )

    async def admit_by_hand(
        self, title: str, address: str, actor: str, name: str, act: Act | None = None
    ) -> Scanner:
        """Let a modality in that has not called yet."""

        def work(book: Book) -> Scanner:
            key = imaging.scanner_key(book.node, title, address)
            if book.get(Scanner, key) is None:
                book.put(Scanner(id=key, title=title, address=address, state=REFUSED))
            return _admit(book, key, actor, name)

        return await (act or Act()).do(self._journal.transact, work, Scanner)

    async def remove(self, key: str, actor: str, name: str, act: Act | None = None) -> Scanner:
        """Shut a modality out; what it sent stays."""

        def work(book: Book) -> Scanner:
            _known(book, key)
            body = ScannerRemoved(scanner=key, by=actor, by_name=name)
            book.write(imaging.STREAM, body)
            book.audit(actor, "remove", f"{Scanner.SHEET}/{key}")
            return _known(book, key)

        return await (act or Act()).do(self._journal.transact, work, Scanner)

    async def allow(
        self, key: str, allowed: Allowed, actor: str, name: str, act: Act | None = None
    ) -> Scanner:
        """What an admitted modality may beyond sending, from its next association on."""

        def work(book: Book) -> Scanner:
            if _known(book, key).state != ADMITTED:
                raise ScannerNotAdmitted("admit it first; then say what more it may")
            body = ScannerSet(
                scanner=key,
                port=allowed.port,
                may_query=allowed.may_query,
                commits_here=allowed.commits_here,
                by=actor,
                by_name=name,
            )
            book.write(imaging.STREAM, body)
            book.audit(actor, "change", f"{Scanner.SHEET}/{key}")
            return _known(book, key)

        return await (act or Act()).do(self._journal.transact, work, Scanner)

    async def remove_by_hand(self, title: str, address: str, actor: str, name: str) -> Scanner:
        """The same by what it is called."""
        return await self.remove(imaging.scanner_key(self._node, title, address), actor, name)

    async def test(self, key: str) -> Echo:
        """C-ECHO back to a modality, at the port that was entered for it; one after another."""
        found = self._journal.sheets.get(Scanner, key)
        if found is None:
            raise _unknown()
        async with self._testing:
            echo = await calling.echo(self.title, found.title, found.address, found.port)
        self.tested[key] = echo
        self._live.tell_soon("modality")
        return echo

    def scanners(self) -> list[Scanner]:
        """Every modality that has called or was let in, the latest caller first."""
        return self._journal.sheets.find(Scanner, newest=True)

    def _write_admissions(self) -> None:
        found = self._journal.sheets.find(Scanner, state=ADMITTED)
        callers = sorted((each.title, each.address) for each in found)
        if callers != self._written:  # scanners change with every image, their list does not
            self._admissions.write([Caller(*each) for each in callers])
            self._written = callers

    # -- content

    async def original(self, shelf: Shelf) -> bytes:
        """The Part 10 file; SealBroken or FileNotFoundError if the box has it no more."""
        return await asyncio.to_thread(self._reader.body, Place(shelf.segment, shelf.offset))

    async def preview(self, key: str) -> bytes:
        """The JPEG; FileNotFoundError while there is none."""
        return await asyncio.to_thread(self._previews.read, key)

    async def packed(self, shelf: Shelf, file: bytes) -> bytes | None:
        """The form of an original for the line; None where it goes as it is."""
        return await self.preparation.packed(shelf, file)

    def plain(self, key: str) -> None:
        """The hub will not have this one packed."""
        self.preparation.plain(key)

    async def measurements(self, shelf: Shelf) -> list[Measurement]:
        """Of a Structured Report; NoPreview, or as for ``original``."""
        return await self._viewer.measurements(await self.original(shelf))

    async def view(self, shelf: Shelf, window: str) -> bytes:
        """A JPEG through one of ``WINDOWS``, made now from the values; NoPreview, or as above."""
        return await self._viewer.render(await self.original(shelf), window)

    async def _prepare(self) -> None:
        try:
            await self.preparation.run()
        finally:
            await self._viewer.close()

    # -- room

    async def _keep_room(self) -> None:
        """While the disk is short, forget the oldest segments that the hub has all of."""
        await self._journal.transact(waiting.begin)
        await self.intake.caught_up.wait()
        while True:
            await self.room.make()
            await asyncio.sleep(_SHORT_SECONDS)


def note_call(book: Book, notice: Called) -> None:
    """A call as it is shown; strangers are bounded, as anybody on the network may knock."""
    key = imaging.scanner_key(book.node, notice.title, notice.address)
    found = book.get(Scanner, key)
    if found is None:
        strangers = book.find(Scanner, state=REFUSED)
        for oldest in strangers[: max(0, len(strangers) - MAX_REFUSED + 1)]:
            book.delete(Scanner, oldest.id)
        found = Scanner(id=key, title=notice.title, address=notice.address, state=REFUSED)
    elif book.now_ms - found.seen_ms < (QUIET_MS if notice.admitted else 1000):
        return  # neither a busy modality nor one that knocks without end is a flood of commits
    book.put(msgspec.structs.replace(found, seen_ms=book.now_ms))


def _known(book: Book, key: str) -> Scanner:
    found = book.get(Scanner, key)
    if found is None:
        raise _unknown()
    return found


def _unknown() -> ScannerUnknown:
    return ScannerUnknown("no modality with that key has called; let it call once, then admit")


def _admit(book: Book, key: str, actor: str, name: str) -> Scanner:
    found = _known(book, key)
    body = ScannerAdmitted(
        scanner=key, title=found.title, address=found.address, by=actor, by_name=name
    )
    book.write(imaging.STREAM, body)
    book.audit(actor, "admit", f"{Scanner.SHEET}/{key}")
    return _known(book, key)
