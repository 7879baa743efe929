"""A box's uploader against a real hub: nobody in another's way, only receipts are believed."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from lianzhen_edge.dicom.shelf import READY, Shelf
from lianzhen_edge.dicom.upload import Line, Patience
from lianzhen_hub.imaging.stores import Name
from lianzhen_protocol import imaging
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import SAFE, SENT, ImageReceived, Instance
from support.fleet import until
from support.image_hub import ImageHub, image_hub
from support.imaging_box import ImagingBox, imaging_box


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ImageHub]:
    (tmp_path / "hub").mkdir()
    async with image_hub(tmp_path / "hub") as made:
        yield made


@pytest.fixture
async def box(hub: ImageHub, tmp_path: Path) -> AsyncIterator[ImagingBox]:
    node, context = await hub.box("BOX-1")
    (tmp_path / "box").mkdir()
    line = Line(f"https://127.0.0.1:{hub.port}", context)
    async with imaging_box(tmp_path / "box", NodeId(node), line) as made:
        yield made


async def alone(service: Callable[[], Awaitable[None]]) -> None:
    await service()


@asynccontextmanager
async def running(*services: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        ours = [tasks.create_task(alone(service)) for service in services]
        try:
            yield
        finally:
            for one in ours:
                one.cancel()


async def at_hub(hub: ImageHub, key: str) -> Instance | None:
    return await hub.hub.consult(lambda sheets: sheets.get(Instance, key))


async def announced(hub: ImageHub, box: ImagingBox, image: Instance) -> None:
    """What the manifest's record does when it gets there."""
    content = await box.imaging.original(shelf(box, image.id))
    assert await hub.announce(box.node, content) == image.id


def shelf(box: ImagingBox, key: str) -> Shelf:
    found = box.journal.sheets.get(Shelf, key)
    assert found is not None
    return found


async def test_an_image_whose_manifest_is_late_holds_up_no_other(
    hub: ImageHub, box: ImagingBox
) -> None:
    for number in range(3):
        box.comes(number)
    await box.catches_up()
    late, *others = sorted(box.images(), key=Instance.order)
    for image in others:
        await announced(hub, box, image)
    previews = dict(box.imaging.services())["previews"]
    async with running(box.imaging.uploader.run, previews):
        await until(lambda: {one.state for one in box.images() if one != late} >= {SENT})
        await until(lambda: sum(one.state == SENT for one in box.images()) == 2)
        await until(lambda: shelf(box, late.id).preview == READY)
        await announced(hub, box, late)
        await until(lambda: all(one.state == SENT for one in box.images()))
        await until(lambda: all(s.preview == "told" for s in box.journal.sheets.find(Shelf)))
    for image in box.images():
        there = await at_hub(hub, image.id)
        assert there is not None
        assert (there.state, there.preview > 0) == (SAFE, True)
        # The box itself believes only the receipt.
        body = ImageReceived(instance=image.id, sha256=image.sha256, received_ms=1)
        assert await box.journal.transact(lambda book, body=body: imaging.received(book, body))  # type: ignore[misc]
    assert {image.state for image in box.images()} == {SAFE}
    assert await hub.receipts(box.node) == 3


async def test_an_image_that_is_gone_holds_up_no_other(hub: ImageHub, box: ImagingBox) -> None:
    first = box.comes(1)
    box.log.close()
    box.log = box.new_log()
    box.comes(2)
    await box.catches_up()
    for image in box.images():
        await announced(hub, box, image)
    (box.folder / "dicom" / f"{first.segment:08d}.seg").unlink()
    async with running(box.imaging.uploader.run):
        await until(lambda: any(one.state == SENT for one in box.images()))
    assert sorted(one.state for one in box.images()) == [SENT, "stored"]


async def test_a_medium_that_fails_is_a_fault_of_the_service_and_of_nothing_else(
    hub: ImageHub, box: ImagingBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.comes(1)
    await box.catches_up()

    async def broken(_shelf: Shelf) -> bytes:
        raise OSError(errno.EIO, "the medium does not read")

    monkeypatch.setattr(box.imaging, "original", broken)
    with pytest.raises(OSError, match="does not read"):  # which starts it again, and no group
        await asyncio.wait_for(box.imaging.uploader.run(), 60)


def test_patience_is_each_ones_own() -> None:
    now = [100.0]
    later = Patience(lambda: now[0])
    assert later.is_due("a")
    later.put_off("a", base=10.0, cap=60.0)
    assert not later.is_due("a")
    assert later.is_due("b")
    assert 5.0 <= later.next_s(30.0) <= 10.0
    now[0] += 10.0
    assert later.is_due("a")
    later.put_off("a", base=10.0, cap=60.0)
    assert later.next_s(30.0) >= 10.0  # longer than before
    later.done("a")
    assert (later.is_due("a"), later.next_s(30.0), len(later)) == (True, 30.0, 0)


async def test_an_original_goes_packed_and_arrives_as_it_was(
    hub: ImageHub, box: ImagingBox
) -> None:
    ramp = (np.arange(128 * 128, dtype=np.uint32) * 7919 % 61 + 1000).astype("<u2")
    box.comes(1, 0, 128, PixelData=ramp.tobytes())
    await box.catches_up()
    (image,) = box.images()
    await announced(hub, box, image)
    async with running(box.imaging.uploader.run):
        await until(lambda: box.images()[0].state == SENT)
    assert box.imaging.uploader.flow.size < 0.7 * image.size
    name = Name(image.node, image.id, "original")
    original = await box.imaging.original(shelf(box, image.id))
    assert await hub.hub.objects.content(name) == original
    await box.imaging.preparation._packer.close()
