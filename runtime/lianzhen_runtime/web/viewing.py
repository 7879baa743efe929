"""A study as the viewer of both consoles gets it (web/src/viewer.ts): in the page, and again as
``/studies/{id}/series`` while more of it comes."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Final

import msgspec

from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.imaging import Instance, Study
from lianzhen_protocol.key_images import ImageKeyed, KeyImage, Number
from lianzhen_runtime.preview import WINDOWS

from .routes import Visit

_DICOMWEB: Final = "/dicomweb"
_METADATA: Final = f"{_DICOMWEB}/studies/{{study}}/series/{{series}}/metadata"

_MOST_PRIORS: Final = 20


class Mark(msgspec.Struct, frozen=True):
    """A key image's frame, and who marked it."""

    frame: int
    name: str


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """An image: what of it can be shown. ``whole``: its pixels as they were sent are here."""

    id: str
    uid: str
    number: int | None
    frames: int
    rows: int
    columns: int
    modality: str
    syntax: str
    preview: bool
    cine: int
    """Frames of a cine that its preview has, evenly over all of them."""
    whole: bool
    keys: list[Mark]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Images in reading order."""

    uid: str
    number: int | None
    text: str
    modality: str
    pictures: list[Picture]


class Prior(msgspec.Struct, frozen=True):
    """Another study of the same patient."""

    id: str
    title: str


class Viewed(msgspec.Struct, frozen=True, kw_only=True):
    """All that the viewer needs to begin."""

    id: str
    uid: str
    title: str
    series: list[Series]
    priors: list[Prior]
    marks: bool
    windows: dict[str, tuple[float, float]]
    """Centre and width in Hounsfield units."""
    dicomweb: str
    """Where DICOMweb begins on this console, whence frames as they were sent; empty if nowhere."""


class Keyed(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader asks for: a frame is a key image, or is none any more."""

    frame: Number = 1
    keyed: bool

    def body(self, image: Instance, by: Actor, now_ms: int) -> ImageKeyed:
        """The record of it."""
        return ImageKeyed(
            instance=image.id,
            frame=self.frame,
            keyed=self.keyed,
            by=by.id,
            by_name=by.name,
            keyed_ms=now_ms,
        )


def dicomweb_of(visit: Visit) -> str:
    """Where DICOMweb begins on this console; empty if it has none."""
    return _DICOMWEB if visit.has(_METADATA) else ""


def title_of(study: Study) -> str:
    """In a few words."""
    return " ".join(part for part in (*study.modalities, study.description, study.date) if part)


def beginning(images: Sequence[Instance]) -> Instance | None:
    """The image with a preview that is nearest to the middle: what stands there at once."""
    middle = len(images) // 2
    shown = [at for at, image in enumerate(images) if image.preview]
    return images[min(shown, key=lambda at: abs(at - middle))] if shown else None


def viewed(
    study: Study,
    images: Iterable[Instance],
    keys: Iterable[KeyImage],
    others: Iterable[Study],
    *,
    marks: bool,
    whole: Callable[[Instance], bool],
    dicomweb: str,
) -> Viewed:
    """``images`` in reading order; ``others`` are studies that the same reader may see.

    An image under another's UID has no address in DICOMweb, and so only its preview.
    """
    by_image: dict[str, list[Mark]] = {}
    for key in keys:
        by_image.setdefault(key.instance, []).append(Mark(key.frame, key.by_name))
    taken = set[str]()

    def picture(image: Instance) -> Picture:
        is_first = not image.differs and image.sop_uid not in taken
        taken.add(image.sop_uid)
        return Picture(
            id=image.id,
            uid=image.sop_uid,
            number=image.instance_number,
            frames=max(1, image.frames),
            rows=image.rows,
            columns=image.columns,
            modality=image.modality,
            syntax=image.transfer_syntax,
            preview=image.preview > 0,
            cine=image.cine,
            whole=is_first and whole(image),
            keys=by_image.get(image.id, []),
        )

    series = [
        Series(
            uid=uid,
            number=first.series_number,
            text=first.series_description,
            modality=first.modality,
            pictures=[picture(image) for image in (first, *rest)],
        )
        for uid, (first, *rest) in _by_series(images)
    ]
    newest = sorted((one for one in others if one.id != study.id), key=_when, reverse=True)
    return Viewed(
        id=study.id,
        uid=study.uid,
        title=title_of(study),
        series=series,
        priors=[Prior(one.id, title_of(one)) for one in newest[:_MOST_PRIORS]],
        marks=marks,
        windows=WINDOWS,
        dicomweb=dicomweb,
    )


def _by_series(images: Iterable[Instance]) -> Iterable[tuple[str, list[Instance]]]:
    for uid, group in groupby(images, key=lambda image: image.series_uid):
        yield uid, list(group)


def _when(study: Study) -> tuple[str, int]:
    return (study.date, study.last_ms)
