"""A study on its way to the hub while the line is cut at any byte and both sides end and begin.

Real TLS over a real line, the box's own uploader and the hub's own HTTPS. What is counted is what
the box says in its requests, so that not a byte is taken for overhead.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from lianzhen_edge.dicom import pace, put, upload
from lianzhen_edge.dicom.shelf import Shelf
from lianzhen_hub.imaging.stores import Name
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import SENT
from line import Line
from support.fleet import until
from support.image_hub import ImageHub, image_hub
from support.imaging_box import ImagingBox, imaging_box

CHUNK = 64 << 10
IMAGES, SIDE = 4, 320
SEEDS = range(int(os.environ.get("LIANZHEN_UPLOAD_SEEDS", "2")))


class Sent(NamedTuple):
    """A chunk on its way; ``answered`` with where the hub is then, or not at all."""

    path: str
    whole: int
    offset: int
    size: int
    answered: int | None


class Witness:
    """Sees every chunk that the box sends."""

    def __init__(self) -> None:
        self.sent = list[Sent]()

    @contextlib.contextmanager
    def watching(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        call = put.Put._call

        async def seen(
            self_: put.Put, method: str, path: str, headers: dict[str, str], chunk: bytes = b""
        ) -> int:
            reached = None
            try:
                reached = await call(self_, method, path, headers, chunk or None)
            finally:
                if method == "PATCH":
                    whole, offset = (
                        int(headers[f"Upload-{name}"]) for name in ("Length", "Offset")
                    )
                    self.sent.append(Sent(path, whole, offset, len(chunk), reached))
            return reached

        with patch.context() as patched:
            patched.setattr(put.Put, "_call", seen)
            yield

    def again(self) -> list[int]:
        """Bytes that went twice, for each chunk that was not answered."""
        found = []
        for number, one in enumerate(self.sent):
            if one.answered is None:
                following = [each for each in self.sent[number + 1 :] if each.path == one.path]
                goes_on = following[0].offset if following else one.offset + one.size
                assert goes_on >= one.offset, "it began before what had been answered"
                found.append(max(0, one.offset + one.size - goes_on))
        return found


class Sites:
    """Both sides in one folder, each of which may end and begin again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub: ImageHub
        self.line: Line

    @asynccontextmanager
    async def hub_runs(self) -> AsyncIterator[None]:
        (self.folder / "hub").mkdir(exist_ok=True)
        async with image_hub(self.folder / "hub") as self.hub:
            yield

    def grow_old(self) -> None:
        """What the hub has of images lies there for years."""
        for part in self.parts():
            os.utime(part, (0, 0))

    def parts(self) -> list[Path]:
        """What the hub has a part of."""
        return list((self.folder / "hub").rglob("*.part"))


@asynccontextmanager
async def uploading(box: ImagingBox, line: Line) -> AsyncIterator[None]:
    """The box's uploader, for a block; its connections end with it, whatever state they are in."""

    def closed() -> bool:
        line.reset()
        return all(each.fileno() == -1 for each in box.imaging.uploader._pace._sockets)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(box.imaging.uploader.run())
        yield
        running.cancel()
    await until(closed)


def all_sent(box: ImagingBox) -> bool:
    """The hub has said that it has everything."""
    return all(one.state == SENT for one in box.images())


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MIN_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(pace, "MAX_CHUNK_BYTES", CHUNK * upload.AT_ONCE)
    monkeypatch.setattr(upload, "pause", lambda attempt, **rest: 0.02)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_study_cut_at_any_byte_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """At most a chunk goes again after a cut, whoever was ended meanwhile, and whenever."""
    luck, sites, witness = random.Random(seed), Sites(tmp_path), Witness()
    (tmp_path / "box").mkdir()
    contents = dict[str, bytes]()
    async with sites.hub_runs():
        node, context = await sites.hub.box("BOX-1")
        line = Line(sites.hub.port)
    where = upload.Line(f"https://127.0.0.1:{line.port}", context)
    try:
        with witness.watching(monkeypatch):
            for life in range(3):
                async with (
                    sites.hub_runs(),
                    imaging_box(tmp_path / "box", NodeId(node), where) as box,
                ):
                    line._target = ("127.0.0.1", sites.hub.port)
                    if life == 0:
                        contents = await study(sites.hub, box)
                    async with uploading(box, line):
                        await (cut(box, line, luck) if life < 2 else until(lambda: all_sent(box)))
                sites.grow_old()
            async with sites.hub_runs():
                for key, content in contents.items():
                    name = Name(node, key, "original")
                    assert await sites.hub.hub.objects.content(name) == content
                    assert (await sites.hub.state(key)).state == "safe"
    finally:
        await asyncio.to_thread(line.close)
    again = witness.again()
    print(f"seed {seed}: {len(again)} chunks were cut, {sum(again)} bytes went again")
    assert len(again) >= 3
    assert max(again) <= CHUNK
    wholes = {one.path: one.whole for one in witness.sent if one.size}
    assert len(wholes) == len(contents)
    assert sum(wholes.values()) < sum(map(len, contents.values())), "they go packed"
    assert sum(one.size for one in witness.sent) == sum(wholes.values()) + sum(again)
    assert sites.parts() == []


async def study(hub: ImageHub, box: ImagingBox) -> dict[str, bytes]:
    """A study at the box, announced at the hub; its files by key."""
    for number in range(IMAGES):
        box.comes(number, side=SIDE)
    await box.catches_up()
    found = {}
    for image in box.images():
        shelf = box.journal.sheets.get(Shelf, image.id)
        assert shelf is not None
        found[image.id] = await box.imaging.original(shelf)
        assert await hub.announce(box.node, found[image.id]) == image.id
    return found


async def cut(box: ImagingBox, line: Line, luck: random.Random) -> None:
    """Some cuts, each at a byte of its own."""
    for _ in range(3):
        line.cut_after = luck.randrange(2500, 3 * CHUNK)
        await until(lambda: line.cut_after is None or all_sent(box))
    line.cut_after = None
