"""The core's end of images, on a real journal and a real segment log."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lianzhen_edge.dicom import waiting
from lianzhen_edge.dicom.arrival import Called, Kept
from lianzhen_edge.dicom.imaging import MAX_REFUSED, note_call
from lianzhen_edge.dicom.segments import BLOCK, Place, segment_path
from lianzhen_edge.dicom.shelf import Held, Shelf
from lianzhen_edge.journal.book import Page
from lianzhen_protocol import imaging
from lianzhen_protocol.imaging import ImageReceived, Instance, Scanner, Study
from lianzhen_protocol.joins import Item, Reason
from support.imaging_box import NODE, ImagingBox, imaging_box
from support.modality import NAME


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[ImagingBox]:
    async with imaging_box(tmp_path) as made:
        yield made


async def test_what_was_never_told_is_found_once(box: ImagingBox) -> None:
    places = [box.comes(number) for number in range(20)]
    for _ in range(3):
        await box.catches_up()
    assert len(box.images()) == 20
    shelves = box.journal.sheets.find(Shelf)
    assert {(each.segment, each.offset) for each in shelves} == set(places)
    (study,) = box.journal.sheets.find(Study)
    assert (study.stored, study.sent.name, study.modalities) == (20, NAME, ("CT",))
    (item,) = box.journal.sheets.find(Item)
    assert (item.id, item.reason) == (study.id, Reason.NO_PATIENT_NUMBER)
    image = min(box.images(), key=Instance.order)
    assert (image.instance_number, image.rows, image.columns, image.frames) == (0, 16, 16, 1)


async def test_what_is_told_twice_or_is_not_there_does_no_harm(box: ImagingBox) -> None:
    place = box.comes(1)
    for kept in (place, place, Place(place.segment, 9 * BLOCK), Place(77, BLOCK)):
        box.imaging.kept(Kept(segment=kept.segment, offset=kept.offset))
    found = await box.imaging.intake._next()
    assert found is not None
    await box.imaging.intake.take(box.imaging.intake._look(found))
    assert len(box.images()) == 1


async def test_two_images_under_one_uid_lie_beside_each_other(box: ImagingBox) -> None:
    box.comes(1, SOPInstanceUID="1.2.3.9")
    box.comes(2, SOPInstanceUID="1.2.3.9")
    await box.catches_up()
    assert sorted(image.differs for image in box.images()) == [False, True]
    assert box.journal.sheets.find(Study)[0].flagged == 1


@pytest.mark.parametrize(
    ("said", "modality", "flag"),
    [("YES", "CT", "yes"), ("NO", "US", "no"), ("", "US", "maybe"), ("", "CT", "")],
)
async def test_text_in_the_pixels_is_flagged(
    box: ImagingBox, said: str, modality: str, flag: str
) -> None:
    box.comes(1, 0, 16, Modality=modality, BurnedInAnnotation=said)
    await box.catches_up()
    assert [image.burned_in for image in box.images()] == [flag]


async def test_a_torn_image_is_as_if_it_never_came(box: ImagingBox) -> None:
    whole, torn = box.comes(1), box.comes(2)
    with segment_path(box.folder / "dicom", torn.segment).open("r+b") as file:
        file.seek(torn.offset + 900)
        file.write(bytes(100))
    await box.catches_up()
    (shelf,) = box.journal.sheets.find(Shelf)
    assert (shelf.segment, shelf.offset) == whole


async def test_what_was_refused_is_held_and_is_no_image(box: ImagingBox) -> None:
    box.comes(1, status=0xC000)
    await box.catches_up()
    await box.catches_up()
    (held,) = box.journal.sheets.find(Held)
    assert (held.status, held.comment, held.title) == (0xC000, "cut off", "CT1")
    assert box.images() == []


async def test_a_segment_goes_only_when_the_hub_has_all_of_it(
    box: ImagingBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [box.comes(number) for number in range(2)]
    box.log.close()
    box.log = box.new_log()
    box.comes(9)
    await box.catches_up()
    monkeypatch.setattr(box.imaging.room, "left", lambda: 0)
    for number, place in enumerate(first):
        assert await box.imaging.room.make() == 0
        shelves = box.journal.sheets.find(Shelf, owner=f"{place.segment:08d}")
        image = box.journal.sheets.get(Instance, shelves[number].id)
        assert image is not None
        body = ImageReceived(instance=image.id, sha256=image.sha256, received_ms=1)
        await box.journal.transact(lambda book, body=body: imaging.received(book, body))  # type: ignore[misc]
    assert await box.imaging.room.make() == 1
    assert not segment_path(box.folder / "dicom", first[0].segment).exists()
    assert await box.imaging.room.make() == 0  # the newest may be written to


async def test_an_image_is_on_this_disk_alone_until_its_own_receipt(box: ImagingBox) -> None:
    box.comes(1)
    box.comes(2)
    await box.catches_up()
    first, second = box.images()
    assert box.journal.tally("images") == (2, first.size + second.size, None)

    async def told(sha256: str) -> None:
        body = ImageReceived(instance=first.id, sha256=sha256, received_ms=1)
        await box.journal.transact(lambda book: waiting.received(book, body))

    await told(second.sha256)  # a receipt of other bytes
    assert box.journal.tally("images").items == 2
    for _ in range(2):  # also where the hub says it again
        await told(first.sha256)
        assert box.journal.tally("images") == (1, second.size, 5_000_000)


async def test_images_of_an_earlier_release_are_counted_once(box: ImagingBox) -> None:
    box.comes(1)
    await box.catches_up()
    counted = box.journal.tally("images")
    await box.journal.transact(lambda book: book._db.execute("DELETE FROM tally"))
    for _ in range(2):
        await box.journal.transact(waiting.begin)
        assert box.journal.tally("images") == counted


# -- callers


async def test_strangers_are_remembered_but_not_without_end(box: ImagingBox) -> None:
    for number in range(MAX_REFUSED + 5):
        await box.imaging.called(Called(title=f"X{number}", address="10.0.0.1", admitted=False))
    assert len(box.imaging.scanners()) == MAX_REFUSED


async def test_who_is_admitted_stands_in_the_list_when_admit_returns(box: ImagingBox) -> None:
    await box.imaging.called(Called(title="CT1", address="10.0.0.1", admitted=False))
    (stranger,) = box.imaging.scanners()
    admissions = box.imaging._admissions
    assert not admissions.admits("CT1", "10.0.0.1")
    await box.imaging.admit(stranger.id, "account-1", "李护士")
    assert admissions.admits("CT1", "10.0.0.1")
    assert not admissions.admits("CT1", "10.0.0.2")
    await box.imaging.remove(stranger.id, "account-1", "李护士")
    assert not admissions.admits("CT1", "10.0.0.1")
    actions = [row.entry.action for row in box.journal.sheets.audit_trail(NODE) if row.entry]
    assert actions == ["admit", "remove"]


async def test_nobody_is_admitted_who_never_called(box: ImagingBox) -> None:
    with pytest.raises(Exception, match="let it call once") as caught:
        await box.imaging.admit("0" * 32, "a", "b")
    assert getattr(caught.value, "code", "") == "scanner-unknown"
    found = await box.imaging.admit_by_hand("US1", "10.0.0.7", "a", "b")
    assert (found.state, box.imaging._admissions.admits("US1", "10.0.0.7")) == ("admitted", True)


async def test_a_busy_modality_is_noted_now_and_then(box: ImagingBox) -> None:
    called = Called(title="CT1", address="10.0.0.1", admitted=True)
    key = imaging.scanner_key(NODE, "CT1", "10.0.0.1")

    def work(page: Page) -> list[int]:
        seen = []
        for now_ms in (100_000, 101_000, 120_000):
            page.now_ms = now_ms
            note_call(page, called)  # type: ignore[arg-type]
            found = page.get(Scanner, key)
            seen.append(found.seen_ms if found else 0)
        return seen

    assert await box.journal.transact(work) == [100_000, 100_000, 120_000]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, ""),
        ({"AcquisitionDateTime": "20251124091500.25+0800"}, "20251124091500.25+0800"),
        ({"AcquisitionDate": "19700101", "AcquisitionTime": "000512"}, "19700101000512"),
        (
            {"ContentDate": "20271124", "ContentTime": "091500", "TimezoneOffsetFromUTC": "+0800"},
            "20271124091500+0800",
        ),
        ({"AcquisitionTime": "091500"}, ""),
    ],
)
async def test_the_time_of_the_modality_is_kept_as_it_was_said(
    box: ImagingBox, said: dict[str, str], kept: str
) -> None:
    box.comes(1, 0, 16, **said)
    await box.catches_up()
    (image,) = box.images()
    assert (image.device_time, image.stored_ms) == (kept, 5_000_000)
