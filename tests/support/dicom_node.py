"""A box's DICOM port with its core behind it, in one process: journal, control socket, services."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from aiohttp import web
from pydicom.dataset import Dataset

from lab import wait_until
from lianzhen_edge.dicom import doors, service_doors
from lianzhen_edge.dicom.arrival import Admissions, Called, Kept
from lianzhen_edge.dicom.core import Core
from lianzhen_edge.dicom.imaging import Allowed
from lianzhen_edge.dicom.scp import House, Server
from lianzhen_edge.dicom.segments import SegmentReader
from lianzhen_edge.dicom.services.wiring import services
from lianzhen_edge.dicom.storage import Reception
from lianzhen_edge.journal.book import Book
from lianzhen_protocol import imaging
from lianzhen_protocol.imaging import ImageReceived, Instance, scanner_key
from lianzhen_runtime.http import serving
from lianzhen_runtime.problems import problems

from .imaging_box import ImagingBox, imaging_box
from .modality import DCMTK, association, ct_slice, data_set
from .people import NODE, NOW_MS, a_patient

T = TypeVar("T")
PATIENT = a_patient(name="王小明")
HERE, STUDY = "127.0.0.1", "1.2.826.0.1.3680043.9.7"


class DicomNode:
    """``box`` is the core; ``port`` is where modalities call, CT1 being one that is admitted."""

    def __init__(self, box: ImagingBox, server: Server, core: Core) -> None:
        self.box, self.server, self.core = box, server, core
        self.port = server.port

    async def put(self, work: Callable[[Book], T]) -> T:
        """Something happens at the core."""
        return await self.box.journal.transact(work)

    async def admit(self, title: str, **allowed: Any) -> str:
        """A modality at this machine, and what it may; its key."""
        await self.box.imaging.admit_by_hand(title, HERE, "admin", "admin")
        key = scanner_key(NODE, title, HERE)
        await self.box.imaging.allow(key, Allowed(**allowed), "admin", "admin")
        return key

    async def ask(self, program: str, *arguments: str) -> str:
        """What a program of dcmtk says, its status last."""
        command = [str(DCMTK / program), *arguments]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, check=False, timeout=60,
            env=os.environ | {"TCP_NODELAY": "1", "DCMDICTPATH": "/usr/share/libdcmtk17/dicom.dic"},
        )  # fmt: skip
        return (done.stdout + done.stderr).decode("utf-8", "replace") + f"\nrc={done.returncode}"

    def images(self, study: str = "") -> list[Instance]:
        """What the journal has."""
        return self.box.journal.sheets.find(Instance, owner=study or None)

    async def send(
        self, count: int, study: str = "1.2.826.0.1.3680043.9.7", **more: Any
    ) -> list[Dataset]:
        """Slices of a CT, stored by pynetdicom, and in the journal when this returns."""
        made = [ct_slice(each, study, f"{study}.1", side=16, **more) for each in range(count)]
        before = len(self.images())

        def store() -> None:
            with association(self.port) as sender:
                assert sender is not None
                for each in made:
                    assert sender.store(data_set(each), str(each.SOPInstanceUID)).status == 0

        await asyncio.to_thread(store)
        await self.until(lambda: len(self.images()) == before + count)
        return made

    async def safe(self, *uids: str) -> None:
        """The hub's receipt for these, or for all, has come."""

        def work(book: Book) -> None:
            for each in book.find(Instance):
                if not uids or each.sop_uid in uids:
                    receipt = ImageReceived(instance=each.id, sha256=each.sha256, received_ms=1)
                    imaging.received(book, receipt)

        await self.put(work)

    @staticmethod
    async def until(holds: Callable[[], bool]) -> None:
        """Waits for a condition, beside the loop that it depends on."""
        await asyncio.to_thread(wait_until, "it holds", holds, 100)


class _Ear:
    """Tells the core what the scp does, without the socket that a process needs for it."""

    def __init__(self, box: ImagingBox) -> None:
        self._box, self._loop = box, asyncio.get_running_loop()

    def tell(self, notice: Kept | Called) -> None:
        if isinstance(notice, Kept):
            self._loop.call_soon_threadsafe(self._box.imaging.kept, notice)


@asynccontextmanager
async def dicom_node(folder: Path) -> AsyncIterator[DicomNode]:
    """One that has a patient."""
    control = folder / "control.sock"
    async with imaging_box(folder) as box:
        clock = SimpleNamespace(now_ms=NOW_MS)
        whole: Any = SimpleNamespace(
            journal=box.journal, imaging=box.imaging, clinic="青山镇卫生院", clock=clock, node=NODE
        )
        app = web.Application(middlewares=[problems])
        app.add_routes([*doors.routes(lambda: box.imaging), *service_doors.routes(whole)])
        async with serving(app, path=control), asyncio.TaskGroup() as tasks:
            intake = tasks.create_task(box.imaging.intake.run())
            core, ear = Core(control), _Ear(box)
            admissions = Admissions(folder / "dicom")
            stack = ExitStack()
            offered = stack.enter_context(
                services(core, SegmentReader(folder / "dicom", box.keys), "LIANZHEN")
            )
            house = House(Reception(box.log, ear), admissions, ear, services=offered)
            server = Server((HERE, 0), house)
            stack.callback(server.close)
            try:
                node = DicomNode(box, server, core)
                await node.put(lambda book: book.put(PATIENT))
                await node.admit("CT1")
                yield node
            finally:
                await asyncio.to_thread(stack.close)
                intake.cancel()
