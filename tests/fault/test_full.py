"""Disks without one free byte, under the parts that write: refused, nothing lost, well again."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lianzhen_edge.dicom.segment_log import SegmentLog
from lianzhen_edge.dicom.segments import BLOCK, LogFailed, LogFull, SegmentReader
from lianzhen_edge.dicom.upload import Line
from lianzhen_edge.journal.errors import JournalError, JournalFull
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import records
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import SAFE, SENT
from lianzhen_protocol.sender import Advanced
from lianzhen_runtime.files import write_durably
from lianzhen_runtime.keys import FileKeys
from support.fleet import until
from support.image_hub import ImageHub, image_hub
from support.imaging_box import imaging_box
from support.lab_fixtures import needs_root, notes
from support.small_disk import SmallDisk, small_disk
from unit.hub_imaging.test_uploader import announced, running

pytestmark = needs_root

NODE = NodeId("n0123456789ab")
STREAM = "record.full"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 16) as made:
        yield made


async def opened(disk: SmallDisk, keys: FileKeys) -> Journal:
    return await Journal.open(disk.folder / "journal.db", NODE, keys, lambda: 1_800_000_000_000)


async def test_a_journal_without_a_byte_refuses_all_and_goes_on(
    disk: SmallDisk, tmp_path: Path
) -> None:
    """Also without any reserve, as somebody else has taken it."""
    keys = FileKeys(tmp_path / "keys")
    journal, kept = await opened(disk, keys), notes(50, "x" * 5000)
    await journal.put(STREAM, [each.entry for each in kept])
    disk.fill()
    refused = 0
    for each in notes(600, "y" * 5000):  # what is left of the write-ahead log takes some
        try:
            await journal.put(STREAM, [each.entry])
        except JournalFull:
            refused += 1
        else:
            kept.append(each)
    assert refused > 0
    with pytest.raises(JournalError):
        await journal.transact(lambda book: book.audit("me", "read", "patient/1"))
    disk.empty()
    more = notes(3)
    await journal.put(STREAM, [each.entry for each in more])
    await journal.advance([(journal.epoch, Advanced(STREAM, 10, 10))])
    await journal.close()
    journal = await opened(disk, keys)
    run = journal.read(STREAM, 11, 10_000, 1 << 30)
    found = [records.decode(entry).id for entry in run.records]
    assert found == [each.id for each in (*kept, *more)][10:]
    await journal.close()


def test_segments_and_files_without_a_byte_refuse_and_go_on(
    disk: SmallDisk, tmp_path: Path
) -> None:
    keys, folder = FileKeys(tmp_path / "keys"), disk.folder / "dicom"
    log = SegmentLog(folder, keys, segment_bytes=64 * BLOCK)
    first = log.append(b"first", b"content")
    write_durably(disk.folder / "small", b"before")
    disk.fill()
    second = log.append(b"second", b"its segment was paid for")
    with pytest.raises((LogFull, LogFailed)):
        log.append(b"third", bytes(64 * BLOCK))
    with pytest.raises(OSError, match="space"):
        write_durably(disk.folder / "small", bytes(10_000))
    assert (disk.folder / "small").read_bytes() == b"before"
    disk.empty()
    third = log.append(b"third", bytes(64 * BLOCK))
    write_durably(disk.folder / "small", b"after")
    reader = SegmentReader(folder, keys)
    assert [reader.meta(each).meta for each in (first, second, third)] == [
        b"first",
        b"second",
        b"third",
    ]
    assert {path.suffix for path in folder.iterdir()} == {".seg"}, "nothing half made is left"
    log.close()


@pytest.fixture
async def hub(disk: SmallDisk, tmp_path: Path) -> AsyncIterator[ImageHub]:
    """One whose images, and nothing else, lie on the small disk."""
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "images").symlink_to(disk.folder)
    async with image_hub(tmp_path / "hub") as made:
        yield made


async def test_a_hub_without_a_byte_for_images_asks_for_patience_and_has_them_later(
    hub: ImageHub, disk: SmallDisk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node, context = await hub.box("BOX-1")
    (tmp_path / "box").mkdir()
    line = Line(f"https://127.0.0.1:{hub.port}", context)
    async with imaging_box(tmp_path / "box", NodeId(node), line) as box:
        for number in range(3):
            box.comes(number)
        await box.catches_up()
        for image in box.images():
            await announced(hub, box, image)
        disk.fill()
        with caplog.at_level(logging.WARNING, "lianzhen.upload"):
            async with running(box.imaging.uploader.run):
                await until(lambda: "waits for the hub" in caplog.text)
                assert SENT not in {image.state for image in box.images()}
                disk.empty()
                await until(lambda: {image.state for image in box.images()} == {SENT})
        for image in box.images():
            assert (await hub.state(image.id)).state == SAFE
