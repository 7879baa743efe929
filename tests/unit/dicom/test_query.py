"""Query and retrieve as dcmtk's findscu, movescu and getscu do it, into dcmtk's storescp."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from lab import free_ports, wait_until
from lianzhen_edge.dicom.dimse import Context, Field, Outgoing, Peer, Request, Response, Tag
from lianzhen_edge.dicom.segments import segment_path, segments
from lianzhen_edge.dicom.services import query
from lianzhen_edge.dicom.services.carriers import Status
from lianzhen_edge.dicom.services.said import Piece
from support.dicom_node import STUDY, DicomNode, dicom_node
from support.modality import DCMTK, storescu

LEVEL = "QueryRetrieveLevel="
ANY = "PatientID"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[DicomNode]:
    async with dicom_node(tmp_path) as found:
        await found.admit("WS1", may_query=True)
        yield found


async def ask(node: DicomNode, program: str, *arguments: str, title: str = "WS1") -> str:
    place = ("-aet", title, "-aec", "LIANZHEN", "127.0.0.1", str(node.port))
    return await node.ask(program, "-v", "-S", *arguments, *place)


def keys(level: str, *more: str) -> list[str]:
    return [part for key in (LEVEL + level, *more) for part in ("-k", key)]


async def find(node: DicomNode, level: str, *more: str, title: str = "WS1") -> str:
    return await ask(node, "findscu", *keys(level, *more), title=title)


def count(said: str) -> int:
    return said.count("Find Response: ")


def same(sent: Dataset, path: Path) -> bool:
    came = pydicom.dcmread(path)
    came.remove_private_tags()
    return bool(came == sent and came.PixelData == sent.PixelData)


def by_uid(folder: Path) -> dict[str, Path]:
    paths = [path for path in folder.iterdir() if path.is_file()]
    return {
        str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in paths
    }


@asynccontextmanager
async def storescp(folder: Path, title: str, *options: str) -> AsyncIterator[int]:
    """dcmtk's receiver; it keeps what comes bit for bit."""
    (port,) = free_ports(1)
    place = ("-od", str(folder), "-aet", title, *options, str(port))
    quiet = asyncio.subprocess.DEVNULL
    running = await asyncio.create_subprocess_exec(
        str(DCMTK / "storescp"), *place, stdout=quiet, stderr=quiet
    )
    listens = [str(DCMTK / "echoscu"), "127.0.0.1", str(port)]

    def ready() -> bool:
        return subprocess.run(listens, capture_output=True, check=False).returncode == 0

    try:
        await asyncio.to_thread(wait_until, "it listens", ready, 30)
        yield port
    finally:
        running.kill()
        await running.wait()


async def test_a_modality_that_may_send_may_not_look(node: DicomNode) -> None:
    await node.send(1)
    said = await find(node, "STUDY", "StudyInstanceUID", title="CT1")
    assert "0x124" in said
    assert count(said) == 0
    assert "Association Rejected" in await find(node, "STUDY", title="NOBODY")
    gone = await ask(node, "getscu", *keys("STUDY", f"StudyInstanceUID={STUDY}"), title="CT1")
    assert "0x124" in gone


async def test_studies_series_and_images_are_found_by_their_keys(node: DicomNode) -> None:
    await node.send(2)
    await node.send(3, f"{STUDY}.5", PatientID="P-0002", PatientName="李^四", StudyDate="20261201")
    said = await find(
        node, "STUDY", "StudyInstanceUID", "PatientName=测试*", "NumberOfStudyRelatedInstances"
    )
    assert count(said) == 1
    for value in (STUDY, "测试^患者", "ISO_IR 192", "LIANZHEN", "ONLINE"):
        assert f"[{value}" in said
    assert count(await find(node, "STUDY", ANY)) == 2
    assert count(await find(node, "STUDY", ANY, "StudyDate=20261125-")) == 1
    assert count(await find(node, "STUDY", ANY, "ModalitiesInStudy=CT")) == 2
    assert count(await find(node, "STUDY", ANY, f"StudyInstanceUID={STUDY}\\{STUDY}.5")) == 2
    assert count(await find(node, "STUDY", ANY, "PatientID=P-0009")) == 0
    study = f"StudyInstanceUID={STUDY}.5"
    series = await find(
        node, "SERIES", study, "SeriesInstanceUID", "NumberOfSeriesRelatedInstances"
    )
    assert (count(series), f"[{STUDY}.5.1" in series) == (1, True)
    images = (study, f"SeriesInstanceUID={STUDY}.5.1", "SOPInstanceUID", "InstanceNumber")
    assert count(await find(node, "IMAGE", *images)) == 3
    assert count(await find(node, "IMAGE", *images[:3], "InstanceNumber=2")) == 1
    for wrong in (("SERIES", ANY), ("IMAGE", study), ("PATIENT", ANY)):
        said = await find(node, *wrong)
        assert count(said) == 0
        assert "Success" not in said


async def test_getscu_gets_every_image_as_it_came(node: DicomNode, tmp_path: Path) -> None:
    sent = await node.send(3)
    folder = tmp_path / "got"
    folder.mkdir()
    wanted = ("-od", str(folder), "+B", *keys("STUDY", f"StudyInstanceUID={STUDY}"))
    said = await ask(node, "getscu", *wanted)
    assert "rc=0" in said
    got = by_uid(folder)
    assert len(got) == 3
    for image in sent:
        assert same(image, got[str(image.SOPInstanceUID)])
    trail = node.box.journal.sheets.audit_trail(node.box.node)
    assert "export" in [row.entry.action for row in trail if row.entry]


async def test_movescu_has_images_sent_to_an_admitted_place_and_to_no_other(
    node: DicomNode, tmp_path: Path
) -> None:
    sent = await node.send(3)
    folder = tmp_path / "got"
    folder.mkdir()
    async with storescp(folder, "WS2", "+B") as port:
        wanted = keys("STUDY", f"StudyInstanceUID={STUDY}")
        unknown = await ask(node, "movescu", "-aem", "WS2", *wanted)
        assert "MoveDestinationUnknown" in unknown.replace(" ", "")
        await node.admit("WS2", port=port)
        assert "rc=0" in await ask(node, "movescu", "-aem", "WS2", *wanted)
        got = by_uid(folder)
        assert len(got) == 3
        for image in sent:
            assert same(image, got[str(image.SOPInstanceUID)])
        one = str(sent[0].SOPInstanceUID)
        got[one].unlink()
        series = (f"StudyInstanceUID={STUDY}", f"SeriesInstanceUID={STUDY}.1")
        again = keys("IMAGE", *series, f"SOPInstanceUID={one}")
        assert "rc=0" in await ask(node, "movescu", "-aem", "WS2", *again)
        assert by_uid(folder).keys() == got.keys()
    await node.admit("WS2", port=node.port)  # which admits no LIANZHEN
    refused = await ask(node, "movescu", "-aem", "WS2", *wanted)
    assert "Refused: OutOfResourcesSubOperations" in refused


async def test_compressed_images_go_as_they_came_or_not_at_all(
    node: DicomNode, tmp_path: Path
) -> None:
    path = Path(str(get_testdata_file("MR_small_RLE.dcm")))
    await asyncio.to_thread(storescu, node.port, [path], "--propose-rle")
    await node.until(lambda: len(node.images()) == 1)
    original = pydicom.dcmread(path)
    folder = tmp_path / "got"
    folder.mkdir()
    wanted = keys("STUDY", f"StudyInstanceUID={original.StudyInstanceUID}")
    refused = await ask(node, "getscu", "-od", str(folder), *wanted)  # offers no RLE
    assert "Refused: OutOfResourcesSubOperations" in refused
    assert list(folder.iterdir()) == []
    async with storescp(folder, "WS2", "+B", "+xr") as port:
        await node.admit("WS2", port=port)
        assert "rc=0" in await ask(node, "movescu", "-aem", "WS2", *wanted)
    (came,) = folder.iterdir()
    copy = pydicom.dcmread(came)
    assert copy.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert copy.PixelData == original.PixelData


async def test_what_the_box_no_longer_holds_is_counted_as_failed(
    node: DicomNode, tmp_path: Path
) -> None:
    await node.send(2)
    for number in segments(node.box.folder / "dicom"):
        segment_path(node.box.folder / "dicom", number).unlink()
    folder = tmp_path / "got"
    folder.mkdir()
    said = await ask(
        node, "getscu", "-od", str(folder), *keys("STUDY", f"StudyInstanceUID={STUDY}")
    )
    assert "Refused: OutOfResourcesSubOperations" in said
    assert "Failed Suboperations    : 2" in said
    assert list(folder.iterdir()) == []


class Caller:
    """An association whose caller cancels after so many answers."""

    peer, contexts = Peer("WS1", "127.0.0.1"), ()

    def __init__(self, after: int) -> None:
        self.after, self.asked = after, 0

    def cancelled(self, message_id: int) -> bool:
        self.asked += 1
        return message_id == 7 and self.asked > self.after

    def quiet(self, seconds: float) -> bool:
        return True

    def call(self, request: Outgoing) -> Response:
        raise AssertionError


class Counted:
    """Carries what it is told to."""

    def __init__(self, *made: Status) -> None:
        self.made = list(made)

    def carry(self, piece: Piece) -> Status:
        return self.made.pop(0)


@pytest.mark.parametrize(
    ("after", "made", "status", "counts"),
    [
        (9, (Status.DONE, Status.DONE, Status.DONE), 0x0000, (3, 0, 0, None)),
        (9, (Status.DONE, Status.FAILED, Status.WARNED), 0xB000, (1, 1, 1, None)),
        (9, (Status.FAILED, Status.FAILED, Status.FAILED), 0xA702, (0, 3, 0, None)),
        (2, (Status.DONE, Status.FAILED), 0xFE00, (1, 1, 0, 1)),
        (0, (), 0xFE00, (0, 0, 0, 3)),
    ],
)
def test_sub_operations_are_counted_and_a_cancel_ends_them(
    after: int, made: tuple[Status, ...], status: int, counts: tuple[int | None, ...]
) -> None:
    command = {Tag.COMMAND_FIELD: Field.C_GET, Tag.MESSAGE_ID: 7}
    request = Request(Context(1, query.GET, "1.2.840.10008.1.2.1"), command)
    pieces = [
        Piece(sop_class="1.2", sop_uid=f"1.2.{each}", transfer_syntax="1.2", segment=0)
        for each in range(3)
    ]
    said = list(query._carry(request, Caller(after), pieces, Counted(*made)))
    last = said[-1]
    tags = (Tag.COMPLETED, Tag.FAILED, Tag.WARNING, Tag.REMAINING)
    assert (last.status, tuple(last.elements.get(tag) for tag in tags)) == (status, counts)
    assert all(each.status == 0xFF00 for each in said[:-1])
    assert bool(last.data) == any(each is not Status.DONE for each in made)
