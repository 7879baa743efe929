"""What the clinic's viewer reads of DICOMweb: metadata and frames, of images that the box holds."""

from typing import TYPE_CHECKING

from lianzhen_edge.dicom.shelf import Shelf
from lianzhen_protocol.accounts import CLINICAL
from lianzhen_protocol.imaging import Instance, Study, images_of
from lianzhen_runtime.dicomweb.archive import Reading
from lianzhen_runtime.dicomweb.making import Workers
from lianzhen_runtime.dicomweb.retrieve import Retrieval
from lianzhen_runtime.web.noting import Looks
from lianzhen_runtime.web.routes import Routes, Visit

if TYPE_CHECKING:
    from lianzhen_edge.box import Box
    from lianzhen_edge.journal.book import Book

_MOST_BYTES = 8 << 20
"""Of descriptions that are kept: a box has little memory."""


def routes(box: "Box", workers: Workers) -> Routes:
    """Metadata and frames."""
    found = Routes()
    Retrieval(Reading(BoxArchive(box), _MOST_BYTES), workers).mount(found, CLINICAL)
    return found


class BoxArchive:
    """``Archive`` of a box."""

    def __init__(self, box: "Box") -> None:
        self._box = box
        self._looks = Looks()

    async def find(
        self, _visit: Visit, study: str, series: str = "", instance: str = ""
    ) -> list[Instance]:
        """Images that the box holds, by UIDs, in reading order."""
        sheets = self._box.journal.sheets
        keys = [one.id for one in sheets.find_token(Study, "uid", study)]
        if instance:
            named = sheets.find_token(Instance, "sop", instance)
            images = [one for one in named if one.study in keys]
        else:
            images = [one for key in keys for one in images_of(sheets, key)]
        return [
            image
            for image in images
            if not image.differs and series in ("", image.series_uid) and self._holds(image)
        ]

    def _holds(self, image: Instance) -> bool:
        return self._box.journal.sheets.get(Shelf, image.id) is not None

    async def content(self, image: Instance, begin: int = 0, end: int | None = None) -> bytes:
        """Bytes of the Part 10 file; FileNotFoundError or SealBroken."""
        shelf = self._box.journal.sheets.get(Shelf, image.id)
        if shelf is None:
            raise FileNotFoundError(image.id)
        return (await self._box.imaging.original(shelf))[begin:end]

    async def looked(self, visit: Visit, images: list[Instance]) -> None:
        """Somebody looks at them: in the audit log before they leave, once for a sitting."""
        actor = visit.actor.id

        async def write(new: list[str]) -> None:
            def work(book: "Book") -> None:
                for subject in new:
                    book.audit(actor, "read", subject)

            await self._box.journal.transact(work)

        subjects = sorted({f"{Study.SHEET}/{image.study}" for image in images})
        await self._looks.note(actor, subjects, self._box.clock.now_ms, write, quiet=True)

    async def taken(self, visit: Visit, images: list[Instance]) -> None:
        """No copies are given out here."""
        await self.looked(visit, images)
