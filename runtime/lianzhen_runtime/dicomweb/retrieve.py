"""WADO-RS (PS3.18, 10.4) as handlers: metadata, instances, frames, bulk data.

A program mounts those that it has (``mount``). All that is sent in one piece has an entity tag and
may be asked for by ranges; studies and series go part by part, and one image at a time is in
memory.
"""

import re
from collections.abc import AsyncIterator, Iterable
from typing import Final

import msgspec
from aiohttp import web

from lianzhen_protocol.dicomset import EXPLICIT, PIXELS
from lianzhen_protocol.errors import ProtocolError
from lianzhen_protocol.imaging import Instance
from lianzhen_runtime.web.routes import Audience, Routes, Visit

from . import multipart
from .answers import ASK, Piece, answer, known, not_modified, tag_of, together
from .archive import ImageAway, NoSuchImages, Reading, pixels_of
from .described import Description, turned, with_addresses
from .frames import NoSuchFrame
from .making import MAX_FILE_BYTES, TARGETS, NotConverted, Order, Workers
from .media import (
    DICOM,
    DICOM_JSON,
    JSON,
    OCTETS,
    NotAcceptable,
    Wanted,
    choose,
    covers,
    fits,
    type_of,
    wanted,
)

PREFIX: Final = "/dicomweb"
MOST_FRAMES: Final = 1000
"""In one request."""
MOST_BYTES: Final = 256 << 20
"""Of frames in one answer."""

_UID: Final = "{%s:[0-9.]{1,64}}"
STUDY: Final = f"{PREFIX}/studies/{_UID % 'study'}"
SERIES: Final = f"{STUDY}/series/{_UID % 'series'}"
INSTANCE: Final = f"{SERIES}/instances/{_UID % 'instance'}"
_NUMBERS: Final = re.compile(r"[0-9]{1,6}(?:,[0-9]{1,6})*")
_NOT_DECODED: Final = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-9]")
"""Video."""


class Retrieval:
    """The handlers."""

    def __init__(self, reading: Reading, workers: Workers) -> None:
        self._reading = reading
        self._archive = reading.archive
        self._workers = workers

    def mount(self, routes: Routes, roles: Audience) -> None:
        """Metadata and frames, which is what a viewer needs."""
        for path in (STUDY, SERIES, INSTANCE):
            routes.get(f"{path}/metadata", roles=roles)(self.metadata)
        routes.get(f"{INSTANCE}/frames/{{frames}}", roles=roles)(self.frames)

    def mount_all(self, routes: Routes, roles: Audience) -> None:
        """All of WADO-RS."""
        self.mount(routes, roles)
        routes.get(STUDY, roles=roles)(self.several)
        routes.get(SERIES, roles=roles)(self.several)
        routes.get(INSTANCE, roles=roles)(self.instance)
        routes.get(f"{INSTANCE}/bulkdata/{{path:.+}}", roles=roles)(self.bulk)

    async def find(self, visit: Visit) -> list[Instance]:
        """What the path names; NoSuchImages."""
        names = visit.request.match_info
        found = await self._archive.find(
            visit, names["study"], names.get("series", ""), names.get("instance", "")
        )
        if not found:
            raise NoSuchImages
        return found

    # -- metadata

    async def metadata(self, visit: Visit) -> web.StreamResponse:
        """DICOM JSON of each image; one that cannot be read is in it by what its box said."""
        type_ = choose(visit.request.headers.get("Accept", ""), (DICOM_JSON, JSON))
        images = await self.find(visit)
        tag = tag_of("metadata", type_, origin(visit), *(image.id for image in images))
        await self._archive.looked(visit, images)
        if known(visit.request, tag):
            return not_modified(tag, ASK)
        parts = [await self._attributes(image, address(visit, image)) for image in images]
        made = answer(visit.request, tag, type_, b"[" + b",".join(parts) + b"]", cache=ASK)
        if made.status == 200:
            made.enable_compression()
        return made

    async def _attributes(self, image: Instance, where: str) -> bytes:
        try:
            found = await self._reading.describe(image)
        except (ImageAway, ProtocolError):
            return msgspec.json.encode(sketch(image))
        return with_addresses(found.json(), where)

    # -- instances

    async def instance(self, visit: Visit) -> web.StreamResponse:
        """A Part 10 file, alone or as a multipart of one."""
        header = visit.request.headers.get("Accept", "")
        image = (await self.find(visit))[0]
        for one in _dicom(header):
            syntax = one.meant(image.transfer_syntax)
            if not _can(image, syntax):
                continue
            tag = tag_of(image.sha256, syntax, one.multipart)
            await self._archive.taken(visit, [image])
            if known(visit.request, tag):
                return not_modified(tag)
            try:
                content = await self._file(image, syntax)
            except NotConverted:
                continue
            type_ = f"{DICOM}; transfer-syntax={syntax}"
            if not one.multipart:
                return answer(visit.request, tag, type_, content)
            piece = Piece(type_, address(visit, image), content)
            return answer(visit.request, tag, *together(tag, DICOM, [piece]))
        raise NotAcceptable(f"this image is to be had as {DICOM} in {image.transfer_syntax}")

    async def several(self, visit: Visit) -> web.StreamResponse:
        """A study or series, part by part."""
        images = await self.find(visit)
        header = visit.request.headers.get("Accept", "")
        for one in _dicom(header):
            if one.multipart and all(
                _can(image, one.meant(image.transfer_syntax)) for image in images
            ):
                await self._archive.taken(visit, images)
                return await streamed(visit, DICOM, self._files(visit, images, one))
        raise NotAcceptable(
            f'studies and series are to be had as multipart/related; type="{DICOM}"'
        )

    async def _files(
        self, visit: Visit, images: Iterable[Instance], one: Wanted
    ) -> AsyncIterator[Piece]:
        for image in images:
            syntax = one.meant(image.transfer_syntax)
            content = await self._file(image, syntax)
            yield Piece(f"{DICOM}; transfer-syntax={syntax}", address(visit, image), content)

    async def _file(self, image: Instance, syntax: str) -> bytes:
        content = await self._reading.content(image)
        if syntax == image.transfer_syntax:
            return content
        return await self._workers.do(Order(work="file", syntax=syntax), content)

    # -- frames

    async def frames(self, visit: Visit) -> web.StreamResponse:
        """Some frames, each a part; or a single one by itself."""
        numbers = frame_numbers(visit.match("frames"))
        header = visit.request.headers.get("Accept", "")
        image = (await self.find(visit))[0]
        found = await self._reading.describe(image)
        layout = pixels_of(found)
        for number in numbers:
            layout.spans(number)
        if sum(length for n in numbers for _, length in layout.spans(n)) > MOST_BYTES:
            raise NotAcceptable(f"ask for at most {MOST_BYTES} bytes of frames at once")
        await self._archive.looked(visit, [image])
        return await self._pieces(visit, image, found, numbers, header)

    async def _pieces(
        self, visit: Visit, image: Instance, found: Description, numbers: list[int], header: str
    ) -> web.StreamResponse:
        stored = found.transfer_syntax if pixels_of(found).encapsulated else EXPLICIT
        for one in wanted(header, OCTETS):
            syntax = one.meant(stored)
            if not (fits(one.type, syntax) and syntax in (stored, *TARGETS)):
                continue
            if not one.multipart and len(numbers) > 1:
                continue
            type_ = type_of(syntax) if one.type.endswith("/*") else one.type
            tag = tag_of(image.sha256, syntax, type_, one.multipart, *numbers)
            if known(visit.request, tag):
                return not_modified(tag)
            try:
                contents = [await self._frame(image, found, n, syntax) for n in numbers]
            except NotConverted:
                continue
            full = f"{type_}; transfer-syntax={syntax}"
            if not one.multipart:
                return answer(visit.request, tag, full, contents[0])
            base = f"{address(visit, image)}/frames/"
            pieces = [
                Piece(full, f"{base}{n}", content)
                for n, content in zip(numbers, contents, strict=True)
            ]
            return answer(visit.request, tag, *together(tag, type_, pieces))
        also = f"{OCTETS}, and JPEG-LS ({TARGETS[1]})"
        raise NotAcceptable(f"these frames are to be had in {stored}, as {also}")

    async def _frame(self, image: Instance, found: Description, number: int, syntax: str) -> bytes:
        stored = found.transfer_syntax if pixels_of(found).encapsulated else EXPLICIT
        if syntax == stored:
            return await self._reading.frame(image, found, number)
        file = await self._reading.single(image, found, number)
        return await self._workers.do(Order(work="frame", syntax=syntax), file)

    # -- bulk data

    async def bulk(self, visit: Visit) -> web.StreamResponse:
        """A value that metadata only named; pixels in fragments come frame by frame."""
        path, header = visit.match("path").upper(), visit.request.headers.get("Accept", "")
        image = (await self.find(visit))[0]
        found = await self._reading.describe(image)
        place = found.bulk.get(path)
        if place is None:
            raise NoSuchImages
        await self._archive.looked(visit, [image])
        if path == f"{PIXELS:08X}" and pixels_of(found).encapsulated:
            numbers = list(range(1, len(pixels_of(found).frames) + 1))
            if place.length > MOST_BYTES or len(numbers) > MOST_FRAMES:
                raise NotAcceptable("ask for frames")
            return await self._pieces(visit, image, found, numbers, header)
        for one in wanted(header, OCTETS):
            if not covers(one.type, OCTETS) or one.meant(EXPLICIT) != EXPLICIT:
                continue
            tag = tag_of(image.sha256, path, one.multipart)
            if known(visit.request, tag):
                return not_modified(tag)
            content = await self._reading.bytes_of(image, found, place.begin, place.length)
            content = turned(content, place.word)
            if not one.multipart:
                return answer(visit.request, tag, OCTETS, content)
            location = f"{address(visit, image)}/bulkdata/{path}"
            type_ = f"{OCTETS}; transfer-syntax={EXPLICIT}"
            pieces = [Piece(type_, location, content)]
            return answer(visit.request, tag, *together(tag, OCTETS, pieces))
        raise NotAcceptable(f"bulk data are to be had as {OCTETS}")


def origin(visit: Visit) -> str:
    """Scheme, host and port, as the client sees them. Some clients leave the port out of Host."""
    url, transport = visit.request.url, visit.request.transport
    if url.explicit_port is None and transport is not None:
        url = url.with_port(transport.get_extra_info("sockname")[1])
    return str(url.origin())


def address(visit: Visit, image: Instance) -> str:
    """Where an image of the study that the path names is."""
    study = f"{origin(visit)}{PREFIX}/studies/{visit.match('study')}"
    return f"{study}/series/{image.series_uid}/instances/{image.sop_uid}"


def frame_numbers(text: str) -> list[int]:
    """Numbers as a path has them; NoSuchFrame."""
    if not _NUMBERS.fullmatch(text):
        raise NoSuchFrame("frames are numbers from 1 on, with commas between them")
    numbers = [int(one) for one in text.split(",")]
    if len(numbers) > MOST_FRAMES:
        raise NoSuchFrame(f"ask for at most {MOST_FRAMES} frames at once")
    return numbers


def sketch(image: Instance) -> dict[str, object]:
    """What is known of an image that cannot be read here."""
    values = {
        "00080016": ("UI", image.sop_class),
        "00080018": ("UI", image.sop_uid),
        "00080060": ("CS", image.modality),
        "0020000E": ("UI", image.series_uid),
        "00200011": ("IS", image.series_number),
        "00200013": ("IS", image.instance_number),
        "00280010": ("US", image.rows),
        "00280011": ("US", image.columns),
    }
    return {
        tag: {"vr": vr, "Value": [value]} if value not in (None, "") else {"vr": vr}
        for tag, (vr, value) in values.items()
    }


async def streamed(visit: Visit, type_: str, pieces: AsyncIterator[Piece]) -> web.StreamResponse:
    """A multipart whose length nobody knows yet. What goes wrong on the way cuts it off, before
    its last boundary: no client takes that for all."""
    tag = tag_of(visit.request.path, type_)
    boundary = f"lz-{tag}"
    headers = {
        "Content-Type": multipart.content_type(boundary, type_),
        "Cache-Control": "no-store",
        "Vary": "Accept",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(visit.request)
    try:
        async for piece in pieces:
            head = multipart.opening(boundary, piece.type, piece.location, len(piece.content))
            await response.write(head)
            await response.write(piece.content + multipart.CLOSING)
    except BaseException:
        if visit.request.transport is not None:
            visit.request.transport.abort()
        raise
    await response.write(multipart.last(boundary))
    await response.write_eof()
    return response


def _dicom(header: str) -> Iterable[Wanted]:
    """Ways to send a Part 10 file."""
    return (one for one in wanted(header, DICOM) if covers(one.type, DICOM))


def _can(image: Instance, syntax: str) -> bool:
    if syntax == image.transfer_syntax:
        return True
    is_video = _NOT_DECODED.match(image.transfer_syntax) is not None
    return syntax in TARGETS and not is_video and image.size <= MAX_FILE_BYTES
