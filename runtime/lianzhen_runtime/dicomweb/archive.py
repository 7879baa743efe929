"""What the handlers of DICOMweb need of the program that they are part of, and the descriptions
that are kept in memory: an image is named by its content, so one never goes stale."""

import asyncio
from collections import OrderedDict
from typing import Final, Protocol

from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.imaging import Instance
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.web.routes import Visit

from .dataset import read
from .described import Description, describe, turned
from .frames import Layout, NoSuchFrame, single

MOST_BYTES: Final = 32 << 20
"""Of descriptions that are kept: about those of 10,000 slices."""


class NoSuchImages(LianzhenError):
    """There are none, or none that this person may see: the same answer."""

    code = "images-unknown"
    http_status = 404

    def __init__(self) -> None:
        super().__init__("there are no such images, or they are not for you")


class ImageAway(LianzhenError):
    """It is known, and cannot be read here and now."""

    code = "image-away"
    http_status = 404

    def __init__(self) -> None:
        super().__init__("the image itself is not here")


class Archive(Protocol):
    """Images of a program, and who may see them."""

    async def find(
        self, visit: Visit, study: str, series: str = "", instance: str = ""
    ) -> list[Instance]:
        """Images that are here, by UIDs, in reading order; NoSuchImages for whom they are not."""

    async def content(self, image: Instance, begin: int = 0, end: int | None = None) -> bytes:
        """Bytes of the Part 10 file; FileNotFoundError or SealBroken."""

    async def looked(self, visit: Visit, images: list[Instance]) -> None:
        """Somebody looks at them: in the audit log before they leave, once for a sitting."""

    async def taken(self, visit: Visit, images: list[Instance]) -> None:
        """Somebody takes copies: in the audit log before they leave, each time."""


class Reading:
    """Descriptions and parts of images; on the loop, while files are read in threads."""

    def __init__(self, archive: Archive, most: int = MOST_BYTES) -> None:
        self.archive = archive
        self._most = most
        self._kept: OrderedDict[str, Description] = OrderedDict()
        self._weight = 0

    async def describe(self, image: Instance) -> Description:
        """What an image is; ImageAway, or DataSetUnreadable."""
        known = self._kept.get(image.id)
        if known is not None:
            self._kept.move_to_end(image.id)
            return known
        found = await asyncio.to_thread(describe, await self.content(image))
        if image.id not in self._kept:
            self._kept[image.id] = found
            self._weight += found.weight
        while self._weight > self._most and len(self._kept) > 1:
            self._weight -= self._kept.popitem(last=False)[1].weight
        return found

    async def content(self, image: Instance, begin: int = 0, end: int | None = None) -> bytes:
        """Bytes of the file; ImageAway."""
        try:
            return await self.archive.content(image, begin, end)
        except (FileNotFoundError, SealBroken) as error:
            raise ImageAway from error

    async def bytes_of(self, image: Instance, found: Description, begin: int, length: int) -> bytes:
        """Of the data set, where a description says that something lies."""
        if not found.deflated:
            content = await self.content(image, begin, begin + length)
        else:
            plain = (await asyncio.to_thread(read, await self.content(image))).data
            content = plain[begin : begin + length]
        if len(content) != length:
            raise ImageAway
        return content

    async def stored(self, image: Instance, found: Description, number: int) -> bytes:
        """One frame just as it lies in the file, from 1; NoSuchFrame."""
        parts = [
            await self.bytes_of(image, found, *span) for span in pixels_of(found).spans(number)
        ]
        return b"".join(parts)

    async def frame(self, image: Instance, found: Description, number: int) -> bytes:
        """The same by itself: little-endian where it is native."""
        layout = pixels_of(found)
        content = await self.stored(image, found, number)
        return layout.cut(number, turned(content, layout.word))

    async def single(self, image: Instance, found: Description, number: int) -> bytes:
        """A file of that frame alone."""
        layout = pixels_of(found)
        header = await self.bytes_of(image, found, layout.begin, layout.header - layout.begin)
        content = await self.stored(image, found, number)
        if layout.bits:
            content = layout.cut(number, content)
        return single(layout, found.transfer_syntax, header, content)


def pixels_of(found: Description) -> Layout:
    """Where its frames lie; NoSuchFrame if it has none."""
    if found.layout is None:
        raise NoSuchFrame("this has no pixels that can be shown")
    return found.layout
