"""From the segment log to the journal: each image once, by its content, however often it is told.

The scp's notice is a hint; a scan at start, and now and then, finds what was never told. Nothing
here can lose an image: until its manifest is committed it is found again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.patients import tray
from lianzhen_protocol import dicomtext, imaging
from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import MAYBE, ImageStored, Instance, Scanner, Sent
from lianzhen_runtime.log import Log

from . import elements
from .arrival import Arrival
from .segments import Found, Place, SegmentReader
from .shelf import Held, Shelf

BATCH: Final = 16
SCAN_SECONDS: Final = 300.0
_log = Log("lianzhen.images")


class Taken(NamedTuple):
    """An arrival in plain words, ready to become a record."""

    place: Place
    arrival: Arrival
    held: bool


class Intake:
    """Takes places, commits what lies there. One service."""

    def __init__(self, node: NodeId, journal: Journal, reader: SegmentReader) -> None:
        self._node = node
        self._journal = journal
        self._reader = reader
        self._told: asyncio.Queue[Place | None] = asyncio.Queue()
        self.caught_up = asyncio.Event()
        """Set once the scan at start is done."""
        self._begun = self._ended = 0

    def tell(self, place: Place) -> None:
        """An image is durable there."""
        self._told.put_nowait(place)

    def look_again(self) -> None:
        """Whoever tells has died, perhaps before it told: scan now."""
        self._told.put_nowait(None)

    def whole_scan(self) -> int:
        """Order a scan; `scanned` says when all that was durable by now was taken in by it."""
        self.look_again()
        return self._begun + 1

    def scanned(self, number: int) -> bool:
        """Whether the scan of this number has ended, or one after it."""
        return self._ended >= number

    async def run(self) -> None:
        """Scan, then take in what is told, and scan again when nothing was for a while."""
        while True:
            self._begun += 1
            async for batch in self._unknown():
                await self.take(batch)
            self._ended = self._begun
            self.caught_up.set()
            try:
                async with asyncio.timeout(SCAN_SECONDS):
                    while (places := await self._next()) is not None:
                        await self.take(await asyncio.to_thread(self._look, places))
            except TimeoutError:
                continue

    async def take(self, batch: Sequence[Taken]) -> None:
        """Commit a batch: manifest, place, scanner's count, in one transaction."""

        def work(book: Book) -> int:
            return sum(take_one(book, taken) for taken in batch)

        new = await self._journal.transact(work) if batch else 0
        if new:
            _log.debug("images taken in", count=new)

    async def _next(self) -> list[Place] | None:
        """What was told; None if it is time to scan, which finds all that was."""
        places: list[Place | None] = [await self._told.get()]
        while not self._told.empty() and len(places) < BATCH:
            places.append(self._told.get_nowait())
        found = [place for place in places if place is not None]
        return found if len(found) == len(places) else None

    def _look(self, places: Sequence[Place]) -> list[Taken]:
        taken = []
        for place in places:
            try:
                found = self._reader.meta(place)
            except (SealBroken, FileNotFoundError):
                _log.warning("an image was told that is not there", position=place.offset)
                continue
            taken += self._read(found)
        return taken

    async def _unknown(self) -> AsyncIterator[list[Taken]]:
        """What lies in the segments and not in the journal; bodies are opened to see them whole."""
        for number in await asyncio.to_thread(self._reader.segments):
            found = await asyncio.to_thread(lambda n: list(self._reader.scan(n)), number)
            for at in range(0, len(found), BATCH):
                new = [
                    taken
                    for each in found[at : at + BATCH]
                    for taken in self._read(each)
                    if not self._is_known(taken)
                ]
                yield await asyncio.to_thread(self._whole, new)

    def _is_known(self, taken: Taken) -> bool:
        sheets = self._journal.sheets
        if taken.held:
            return sheets.get(Held, held_key(taken.place)) is not None
        key = imaging.instance_key(self._node, taken.arrival.sha256)
        return sheets.get(Instance, key) is not None

    def _whole(self, new: Sequence[Taken]) -> list[Taken]:
        whole = []
        for taken in new:
            try:
                self._reader.body(taken.place)
            except (SealBroken, FileNotFoundError):
                continue  # torn, so nobody was told Success
            whole.append(taken)
        return whole

    @staticmethod
    def _read(found: Found) -> list[Taken]:
        try:
            arrival = msgspec.msgpack.decode(found.meta, type=Arrival)
        except msgspec.DecodeError:
            _log.error("an image of another release", position=found.place.offset)
            return []
        return [Taken(found.place, arrival, found.held)]


def held_key(place: Place) -> str:
    """Key of what is held at a place."""
    return f"{place.segment:08d}-{place.offset:010d}"


def take_one(book: Book, taken: Taken) -> bool:
    """Write one arrival down; False if the journal knows it."""
    place, arrival = taken.place, taken.arrival
    if taken.held:
        return _hold(book, taken)
    key = imaging.instance_key(book.node, arrival.sha256)
    if book.get(Instance, key) is not None:
        return False
    body = manifest(book, arrival, key)
    book.write(imaging.STREAM, body)
    tray.study_arrived(book, tray.study_item(book.node, body, arrival.title))
    book.put(Shelf(id=key, segment=place.segment, offset=place.offset, stored_ms=body.received_ms))
    scanner = book.get(Scanner, body.scanner)
    if scanner is not None:
        book.put(msgspec.structs.replace(scanner, images=scanner.images + 1))
    return True


def _hold(book: Book, taken: Taken) -> bool:
    place, arrival, key = taken.place, taken.arrival, held_key(taken.place)
    if book.get(Held, key) is not None:
        return False
    book.put(
        Held(
            id=key,
            title=arrival.title,
            address=arrival.address,
            status=arrival.status,
            comment=arrival.comment,
            size=arrival.size,
            segment=place.segment,
            offset=place.offset,
            at_ms=book.now_ms,
        )
    )
    return True


def manifest(book: Book, arrival: Arrival, key: str) -> ImageStored:
    """What the hub is told of an image, out of the raw values of its data set."""
    raw = arrival.fields
    study_uid = _plain(raw, elements.STUDY_UID)
    same = book.find_token(Instance, "sop", arrival.sop_uid)
    return ImageStored(
        instance=key,
        study=imaging.study_key(book.node, study_uid),
        sha256=arrival.sha256,
        size=arrival.size,
        sop_class=arrival.sop_class,
        sop_uid=arrival.sop_uid,
        study_uid=study_uid,
        series_uid=_plain(raw, elements.SERIES_UID),
        transfer_syntax=arrival.transfer_syntax,
        modality=_text(raw, elements.MODALITY, 16),
        series_number=_number(raw, elements.SERIES_NUMBER),
        instance_number=_number(raw, elements.INSTANCE_NUMBER),
        rows=_short(raw, elements.ROWS),
        columns=_short(raw, elements.COLUMNS),
        frames=max(1, _number(raw, elements.FRAMES) or 1),
        study_date=_text(raw, elements.STUDY_DATE, 8),
        study_description=_text(raw, elements.STUDY_DESCRIPTION),
        series_description=_text(raw, elements.SERIES_DESCRIPTION),
        sent=sent(raw),
        scanner=imaging.scanner_key(book.node, arrival.title, arrival.address),
        received_ms=book.now_ms,
        device_time=device_time(raw),
        differs=any(other.sha256 != arrival.sha256 for other in same),
        burned_in=burned_in(raw),
    )


def burned_in(raw: dict[int, bytes]) -> str:
    """Whether a patient can be read in the picture: what the modality says, else by its kind."""
    said = _plain(raw, elements.BURNED_IN).upper()
    if said in ("YES", "NO"):
        return said.lower()
    return MAYBE if _plain(raw, elements.MODALITY) in imaging.WRITTEN_ON else ""


def device_time(raw: dict[int, bytes]) -> str:
    """When the modality's clock says that it was taken, as a DICOM DT; "" if it does not.

    Nobody vouches for that clock, and few say their zone: it is kept as it was said.
    """
    found = _text(raw, elements.ACQUIRED, 26)
    for date, of_day in (
        (elements.ACQUIRED_DATE, elements.ACQUIRED_TIME),
        (elements.CONTENT_DATE, elements.CONTENT_TIME),
    ):
        if not found and (day := _text(raw, date, 8)):
            found = day + _text(raw, of_day, 13)
    zoned = found[-5:-4] in ("+", "-")
    return found if zoned or not found else found + _text(raw, elements.ZONE, 5)


def sent(raw: dict[int, bytes]) -> Sent:
    """Whose the modality says that it is."""
    charset, raw_name = raw.get(elements.CHARSET, b""), raw.get(elements.NAME, b"")
    name = dicomtext.decode(raw_name, charset)
    believed = name.source == dicomtext.DECLARED
    return Sent(
        patient_id=_text(raw, elements.PATIENT_ID),
        issuer=_text(raw, elements.ISSUER),
        name=name.text[:400],
        birth_date=_text(raw, elements.BIRTH_DATE, 8),
        sex=_text(raw, elements.SEX, 16),
        accession=_text(raw, elements.ACCESSION, 16),
        charset=name.source,
        declared=charset.decode("ascii", "replace").strip("\0 ")[:400],
        raw_name="" if believed else raw_name[:200].hex(),
    )


def _text(raw: dict[int, bytes], tag: int, limit: int = 400) -> str:
    return dicomtext.decode(raw.get(tag, b""), raw.get(elements.CHARSET, b"")).text[:limit]


def _plain(raw: dict[int, bytes], tag: int) -> str:
    return raw.get(tag, b"").decode("latin-1").rstrip("\0 ")


def _number(raw: dict[int, bytes], tag: int) -> int | None:
    """An integer string (IS); None if it is none, as numbers are for sorting only."""
    try:
        found = int(_plain(raw, tag))
    except ValueError:
        return None
    return found if abs(found) < 1 << 31 else None


def _short(raw: dict[int, bytes], tag: int) -> int:
    return int.from_bytes(raw.get(tag, b"")[:2], "little")
