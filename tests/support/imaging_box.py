"""A box as far as images need one: journal, segment log, and nobody else."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from lianzhen_edge.dicom.arrival import Arrival
from lianzhen_edge.dicom.elements import Walk
from lianzhen_edge.dicom.imaging import Imaging
from lianzhen_edge.dicom.room import ImageShare
from lianzhen_edge.dicom.segment_log import SegmentLog
from lianzhen_edge.dicom.segments import BLOCK, Place
from lianzhen_edge.dicom.upload import Line
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import Instance
from lianzhen_runtime.child import Child
from lianzhen_runtime.keys import FileKeys
from lianzhen_runtime.web.live import Live

from .modality import ct_slice, data_set, part10

NODE = NodeId("n0123456789ab")
CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def indexed(content: bytes) -> dict[int, bytes]:
    """What the scp says of a data set."""
    walk = Walk(EXPLICIT)
    walk.feed(content)
    return walk.end()


class ImagingBox:
    """What images need of a box, and a modality that writes straight into the log."""

    def __init__(
        self,
        journal: Journal,
        keys: FileKeys,
        folder: Path,
        node: NodeId,
        line: Line | None,
        share: ImageShare,
    ) -> None:
        self.node, self.line = node, line
        self.journal, self.keys, self.live, self.folder = journal, keys, Live(), folder
        self.share = share
        self.log = self.new_log()
        self.imaging = Imaging(self, folder, port=0, title="LIANZHEN", share=share)

    def new_log(self) -> SegmentLog:
        folder = self.folder / "dicom"
        return SegmentLog(folder, self.keys, segment_bytes=64 * BLOCK, room=self.share.left)

    def child(self, verb: str, *arguments: str) -> Child:
        return Child(verb, ["false", *arguments])

    def hub_line(self) -> Line:
        if self.line is None:
            raise OSError("no hub here")
        return self.line

    def comes(self, number: int, status: int = 0, side: int = 16, **more: Any) -> Place:
        """An image is durable, and nobody was told."""
        image = ct_slice(number, "1.2.3", "1.2.3.4", side=side, **more)
        content, uid = data_set(image), str(image.SOPInstanceUID)
        file = part10(CT, uid, EXPLICIT, content)
        arrival = Arrival(
            title="CT1",
            address="127.0.0.1",
            sop_class=CT,
            sop_uid=uid,
            transfer_syntax=EXPLICIT,
            sha256=hashlib.sha256(file).hexdigest(),
            size=len(file),
            fields={} if status else indexed(content),
            status=status,
            comment="cut off" if status else "",
        )
        return self.log.append(msgspec.msgpack.encode(arrival), file, held=status != 0)

    async def catches_up(self) -> None:
        """Runs the intake until its scan is done and what was told is taken."""
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.imaging.intake.run())
            await self.imaging.intake.caught_up.wait()
            running.cancel()
        self.imaging.intake.caught_up.clear()

    def images(self) -> list[Instance]:
        return self.journal.sheets.find(Instance)


@asynccontextmanager
async def imaging_box(
    folder: Path, node: NodeId = NODE, line: Line | None = None, share: ImageShare | None = None
) -> AsyncIterator[ImagingBox]:
    """One with its journal open."""
    keys = FileKeys(folder / "keys")
    path = folder / "journal.db"
    journal = await Journal.open(path, node, keys, lambda: 5_000_000, meanings=MEANINGS)
    yield ImagingBox(journal, keys, folder, node, line, share or ImageShare())
    await journal.close()
