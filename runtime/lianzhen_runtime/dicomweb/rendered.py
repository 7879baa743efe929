"""Images as pictures (PS3.18, 8.3.5 and 10.4.1.1.3): rendered, and thumbnails."""

import math
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import web

from lianzhen_protocol.imaging import Instance
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.web.routes import Audience, Routes, Visit

from .answers import Piece, answer, known, not_modified, tag_of
from .archive import Reading, pixels_of
from .frames import NoSuchFrame
from .making import MAX_SIDE, Order, Workers
from .media import MULTIPART, NotAcceptable, accepted, covers
from .retrieve import INSTANCE, SERIES, STUDY, Retrieval, address, frame_numbers, streamed

THUMBNAIL: Final = 128
_TYPES: Final = ("image/jpeg", "image/png")
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


class ParameterUnfit(LianzhenError):
    """A parameter of a picture that cannot be understood; the text says which."""

    code = "parameter-malformed"
    http_status = 400


class Rendering:
    """The handlers."""

    def __init__(self, reading: Reading, retrieval: Retrieval, workers: Workers) -> None:
        self._reading = reading
        self._retrieval = retrieval
        self._workers = workers

    def mount(self, routes: Routes, roles: Audience) -> None:
        """All of them."""
        for path in (STUDY, SERIES):
            routes.get(f"{path}/rendered", roles=roles)(self.all)
        for path in (INSTANCE, f"{INSTANCE}/frames/{{frames}}"):
            routes.get(f"{path}/rendered", roles=roles)(self.one)
        for path in (STUDY, SERIES, INSTANCE, f"{INSTANCE}/frames/{{frames}}"):
            routes.get(f"{path}/thumbnail", roles=roles)(self.thumbnail)

    async def one(self, visit: Visit) -> web.StreamResponse:
        """A picture of one frame: of the one in the middle where none is named."""
        type_ = type_of(visit.request.headers.get("Accept", ""))
        return await self._picture(visit, order_of(visit.request.query, type_), type_)

    async def thumbnail(self, visit: Visit) -> web.StreamResponse:
        """A small one; of a series or study, of the image in the middle."""
        type_ = type_of(visit.request.headers.get("Accept", ""))
        order = order_of(visit.request.query, type_, side=THUMBNAIL)
        return await self._picture(visit, order, type_)

    async def _picture(self, visit: Visit, order: Order, type_: str) -> web.StreamResponse:
        frames = visit.request.match_info.get("frames", "")
        images = [one for one in await self._retrieval.find(visit) if one.rows or frames]
        if not images:
            raise NoSuchFrame("this has no pixels that can be shown")
        image = images[len(images) // 2]
        await self._reading.archive.looked(visit, [image])
        tag = tag_of(image.sha256, "picture", order, frames)
        if known(visit.request, tag):
            return not_modified(tag)
        numbers = frame_numbers(frames) if frames else [max(1, image.frames) // 2 + 1]
        if len(numbers) != 1:
            raise NotAcceptable("a picture is of one frame")
        number = min(numbers[0], max(1, image.frames)) if not frames else numbers[0]
        return answer(visit.request, tag, type_, await self._made(image, number, order))

    async def all(self, visit: Visit) -> web.StreamResponse:
        """A picture of each image."""
        type_ = _part_of(visit.request.headers.get("Accept", ""))
        order = order_of(visit.request.query, type_)
        images = [one for one in await self._retrieval.find(visit) if one.rows]
        await self._reading.archive.looked(visit, images)

        async def pieces() -> AsyncIterator[Piece]:
            for image in images:
                number = min(max(1, image.frames) // 2 + 1, max(1, image.frames))
                content = await self._made(image, number, order)
                yield Piece(type_, f"{address(visit, image)}/rendered", content)

        return await streamed(visit, type_, pieces())

    async def _made(self, image: Instance, number: int, order: Order) -> bytes:
        found = await self._reading.describe(image)
        pixels_of(found).spans(number)
        return await self._workers.do(order, await self._reading.single(image, found, number))


def type_of(header: str) -> str:
    """JPEG or PNG, whichever is taken more gladly; NotAcceptable."""
    for media in accepted(header):
        for type_ in _TYPES:
            if covers(media.type, type_):
                return type_
    raise NotAcceptable(f"pictures are to be had as {' and '.join(_TYPES)}")


def _part_of(header: str) -> str:
    """The type of each picture of many; NotAcceptable."""
    for media in accepted(header):
        inner = media.parameters.get("type", _TYPES[0]).lower()
        if covers(media.type, MULTIPART) and inner in _TYPES:
            return inner
    raise NotAcceptable(f'pictures of many images come as {MULTIPART}; type="{_TYPES[0]}"')


def order_of(query: Mapping[str, str], type_: str, side: int = MAX_SIDE) -> Order:
    """What the parameters ask for; ParameterUnfit."""
    columns, rows = _numbers(query.get("viewport", f"{side},{side}"), 2, "viewport")
    quality = _numbers(query.get("quality", "90"), 1, "quality")[0]
    if not (1 <= columns <= MAX_SIDE and 1 <= rows <= MAX_SIDE and 1 <= quality <= 100):
        raise ParameterUnfit(f"viewport is 1 to {MAX_SIDE} columns and rows, quality 1 to 100")
    return Order(
        work="picture",
        form="JPEG" if type_ == _TYPES[0] else "PNG",
        quality=int(quality),
        window=_window(query.get("window", "")),
        side=(int(columns), int(rows)),
    )


def _window(text: str) -> tuple[float, float, str] | None:
    if not text:
        return None
    numbers, _, function = text.rpartition(",")
    if function.lower() not in _FUNCTIONS:
        numbers, function = text, "linear"
    centre, width = _numbers(numbers, 2, "window")
    if not (width >= 1 and abs(centre) < 1e9 and width < 1e9):
        raise ParameterUnfit("window is centre,width,function, and its width is 1 or more")
    return centre, width, _FUNCTIONS[function.lower()]


def _numbers(text: str, count: int, name: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")] if len(text) < 100 else []
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        raise ParameterUnfit(f"{name} is {count} numbers with commas between them")
    return found
