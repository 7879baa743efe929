"""Key images: which frames a reader says that the reading rests on, and how a report names them.

Each side has marks of its own, so that two readers never overwrite each other's: the clinic's go
up, the centre's go down, and both are shown on both sides.
"""

import enum
import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, ClassVar, Final

import msgspec

from .imaging import Instance, Key, Study, Text
from .records import Body, Milliseconds
from .sheets import Index, Sheet, Sheets

MOST_OF_STUDY: Final = 200
MOST_IN_REPORT: Final = 20

Number = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Side(enum.StrEnum):
    """Whose mark it is."""

    CLINIC = "clinic"
    CENTRE = "centre"


class ImageKeyed(Body, frozen=True, kw_only=True):
    """A named person marks a frame as a key image, or takes the mark off again."""

    instance: Key
    frame: Number = 1
    keyed: bool
    by: str
    """Account id."""
    by_name: Text = ""
    keyed_ms: Milliseconds


KINDS: Final[dict[str, dict[int, type[Body]]]] = {"image.keyed": {1: ImageKeyed}}


class KeyImage(Sheet, frozen=True, kw_only=True):
    """A mark, as long as it is there."""

    SHEET: ClassVar[str] = "key-image"

    id: str
    study: str
    instance: str
    frame: int
    side: str
    by: str
    by_name: str
    keyed_ms: int

    def index(self) -> Index:
        return Index(self.id, self.study, self.side, self.keyed_ms)


def keyed(sheets: Sheets, side: Side, body: ImageKeyed) -> bool:
    """A mark takes effect: False for an image that is not known here, or what is so already.

    A side's records come in their order, so the last one is right.
    """
    image = sheets.get(Instance, body.instance)
    if image is None:
        return False
    identity = _key(side, body.instance, body.frame)
    known = sheets.get(KeyImage, identity)
    if not body.keyed:
        if known is not None:
            sheets.delete(KeyImage, identity)
        return known is not None
    if known is not None and known.by == body.by:
        return False
    sheets.put(
        KeyImage(
            id=identity,
            study=image.study,
            instance=image.id,
            frame=body.frame,
            side=side,
            by=body.by,
            by_name=body.by_name,
            keyed_ms=body.keyed_ms,
        )
    )
    return True


def keys_of(sheets: Sheets, study: str) -> list[KeyImage]:
    """All marks in a study, the first one first."""
    return sheets.find(KeyImage, owner=study, limit=MOST_OF_STUDY)


def in_report(sheets: Sheets, studies: Iterable[str], author: str) -> list[str]:
    """One line for each frame that the author of a report marked in these studies, in the order of
    reading; at most ``MOST_IN_REPORT``."""
    found: list[tuple[tuple[str, tuple[str, int, int, str], int], str]] = []
    for key in studies:
        study = sheets.get(Study, key)
        for mark in keys_of(sheets, key) if study else ():
            image = sheets.get(Instance, mark.instance)
            if study and image and mark.by == author and mark.side == Side.CENTRE:
                place = (study.date, image.order(), mark.frame)
                found.append((place, name_in_report(study, image, mark.frame)))
    return [line for _, line in sorted(found)[:MOST_IN_REPORT]]


def name_in_report(study: Study, image: Instance, frame: int) -> str:
    """As it is signed and printed. What a modality may write as it likes is taken in parts of which
    the form is known, so that nothing of it reads as a sentence of the expert's."""
    date = f"{study.date[:4]}-{study.date[4:6]}-{study.date[6:]}" if _day(study.date) else ""
    series = "" if image.series_number is None else f"序列 {image.series_number}"
    number = "" if image.instance_number is None else f"图像 {image.instance_number}"
    of_many = f"第 {frame} 帧" if image.frames > 1 else ""
    parts = (_modality(image.modality), date, series, number, of_many)
    return " ".join(part for part in parts if part)


def _day(text: str) -> bool:
    return re.fullmatch(r"[0-9]{8}", text) is not None


def _modality(text: str) -> str:
    return text if re.fullmatch(r"[A-Z]{2,6}", text) else ""


def _key(side: Side, instance: str, frame: int) -> str:
    return hashlib.sha256(f"lz/1 key-image\0{side}|{instance}|{frame}".encode()).hexdigest()[:32]
