"""The images' share: what goes, what never goes, and how a sender and the clinic are told."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lianzhen_edge.dicom import room, waiting
from lianzhen_edge.dicom.room import ImageShare
from lianzhen_edge.dicom.segments import BLOCK, LogFull, Place, SegmentReader, segment_path
from lianzhen_protocol.imaging import SAFE, ImageReceived
from support.imaging_box import ImagingBox, imaging_box

SEGMENT = 64 * BLOCK
SHARE = ImageShare(quota_bytes=4 * SEGMENT, segment_bytes=SEGMENT)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[ImagingBox]:
    async with imaging_box(tmp_path, share=SHARE) as made:
        yield made


def fill(box: ImagingBox, first: int = 0) -> list[Place]:
    """Images until the log refuses: all of these were acknowledged."""
    found: list[Place] = []
    with contextlib.suppress(LogFull):
        while len(found) < 1000:
            found.append(box.comes(first + len(found)))
    assert len(found) < 1000
    return found


async def received(box: ImagingBox, count: int) -> None:
    """The hub's receipts for the oldest images."""
    reader = SegmentReader(box.folder / "dicom", box.keys)
    places = {image.id: image for image in box.images()}
    for image in sorted(places.values(), key=lambda each: each.instance_number or 0)[:count]:
        body = ImageReceived(instance=image.id, sha256=image.sha256, received_ms=1)
        await box.journal.transact(lambda book, body=body: waiting.received(book, body))  # type: ignore[misc]
    assert reader.segments()


async def test_a_share_full_of_what_nobody_else_has_refuses_and_loses_nothing(
    box: ImagingBox,
) -> None:
    places = fill(box)
    await box.catches_up()
    assert box.imaging.room.full
    assert await box.imaging.room.make() == 0
    reader = SegmentReader(box.folder / "dicom", box.keys)
    assert all(reader.body(place) for place in places)
    assert room.used(box.folder / "dicom") <= SHARE.quota_bytes

    first = sum(place.segment == places[0].segment for place in places)
    await received(box, first)
    assert await box.imaging.room.make() == 1
    assert not box.imaging.room.full
    assert {place.segment for place in fill(box, 1000)} == {places[-1].segment + 1}
    left = [place for place in places if place.segment != places[0].segment]
    assert all(reader.body(place) for place in left), "only what the hub has went"
    assert {each.state for each in box.images()} >= {SAFE}


async def test_what_the_journal_was_never_told_of_is_not_let_go_of(box: ImagingBox) -> None:
    """A full journal takes no manifest, and the image was acknowledged all the same."""
    first = box.comes(0)
    await box.catches_up()
    await received(box, 1)
    places = fill(box, 1)
    assert await box.imaging.room.make() == 0, "the others of the first segment wait"
    await box.catches_up()
    assert await box.imaging.room.make() == 0
    await received(box, sum(place.segment == first.segment for place in places) + 1)
    assert await box.imaging.room.make() == 1


async def test_a_damaged_segment_is_left_to_a_person_and_an_empty_one_goes(
    box: ImagingBox,
) -> None:
    places = fill(box)
    with segment_path(box.folder / "dicom", places[0].segment).open("r+b") as file:
        file.write(b"damaged")
    assert await box.imaging.room.make() == 0
    with segment_path(box.folder / "dicom", places[0].segment + 1).open("r+b") as file:
        file.seek(BLOCK)
        file.write(bytes(SEGMENT - BLOCK))
    assert await box.imaging.room.make() == 1
