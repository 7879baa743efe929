"""The Storage SCP on a real port: what it answers, and that it kept what it said it kept."""

import io
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import config
from pydicom.data import get_testdata_file
from pydicom.uid import MRImageStorage, generate_uid
from pynetdicom import _config

from lianzhen_edge.dicom.arrival import Called, Caller, Kept
from support.modality import Answer, Sender, association, ct_slice, data_set, pixels, storescu
from support.upper_layer import Scp, running

STUDY, SERIES = "1.2.826.0.1.3680043.9.1", "1.2.826.0.1.3680043.9.1.1"


PACKAGED: list[tuple[str, list[str]]] = [
    ("CT_small.dcm", []),
    ("examples_rgb_color.dcm", []),  # an ultrasound
    ("examples_palette.dcm", []),
    ("examples_jpeg2k.dcm", ["--propose-j2k-lossless"]),
    ("examples_ybr_color.dcm", ["--propose-jpeg8"]),
    ("MR_small_RLE.dcm", ["--propose-rle"]),
]
"""Of pydicom's own files, with what storescu must be told to send them as they are."""


@pytest.fixture
def scp(tmp_path: Path) -> Iterator[Scp]:
    with running(tmp_path) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def careless() -> Iterator[None]:
    """The sender's libraries send what it is told to, and judge nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_config.VALIDATORS, "UI", lambda _value: (True, ""))
        for mode in ("_reading_validation_mode", "_writing_validation_mode"):
            patch.setattr(config.settings, mode, config.IGNORE)
        yield


@pytest.fixture
def sender(scp: Scp) -> Iterator[Sender]:
    with association(scp.port) as opened:
        assert opened is not None
        yield opened


def test_dcmtk_sends_packaged_images_and_they_lie_here_byte_for_byte(scp: Scp) -> None:
    sent = []
    for name, option in PACKAGED:
        path = Path(str(get_testdata_file(name)))
        assert storescu(scp.port, [path], *option) == ([path], 0)
        sent.append(path)
    for path, (arrival, found) in zip(sent, scp.kept(), strict=True):
        original, body = pydicom.dcmread(path), scp.body(found)
        copy = pydicom.dcmread(io.BytesIO(body))
        assert set(copy.keys()) == set(original.keys()) - {0xFFFCFFFC}  # dcmtk sends no padding
        assert copy.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        assert pixels(body) == pixels(path.read_bytes())
        assert (arrival.title, arrival.address) == ("CT1", "127.0.0.1")


def test_success_is_said_and_the_core_is_told_where(scp: Scp, sender: Sender) -> None:
    image = ct_slice(1, STUDY, SERIES)
    assert sender.store(data_set(image), image.SOPInstanceUID) == Answer(0, "")
    called, kept = scp.heard.told.get(timeout=60), scp.heard.told.get(timeout=60)
    assert called == Called(title="CT1", address="127.0.0.1", admitted=True)
    ((arrival, found),) = scp.kept()
    assert kept == Kept(segment=found.place.segment, offset=found.place.offset)
    assert arrival.fields[0x0020000D] == STUDY.encode() + b"\0" * (len(STUDY) % 2)


def test_the_same_image_again_is_kept_once_and_another_one_beside_it(
    scp: Scp, sender: Sender
) -> None:
    image = ct_slice(1, STUDY, SERIES)
    for _ in range(3):
        assert sender.store(data_set(image), image.SOPInstanceUID).status == 0
    other = ct_slice(2, STUDY, SERIES, SOPInstanceUID=image.SOPInstanceUID)
    assert sender.store(data_set(other), image.SOPInstanceUID).status == 0
    assert [arrival.sop_uid for arrival, _ in scp.kept()] == [image.SOPInstanceUID] * 2


@pytest.mark.parametrize(
    "uid", ["../../../../etc/passwd", "1.2.3/../../x", "1." * 40 + "1", "1..2", "1.2.x", "一.二"]
)
def test_a_uid_that_is_none_gets_its_status_and_comes_near_no_path(
    scp: Scp, sender: Sender, uid: str
) -> None:
    image = ct_slice(1, STUDY, SERIES)
    answer = sender.store(data_set(image), uid.encode("utf-8").decode("latin-1"))
    assert answer == Answer(0x0117, "the SOP Instance UID is no UID")
    assert scp.kept() == []
    assert sorted(path.name for path in scp.folder.iterdir()) == ["admitted.json"]
    assert sender.store(data_set(image), image.SOPInstanceUID).status == 0  # it goes on


@pytest.mark.parametrize("keep", [3, 100, 1000, -1000, -1])
def test_a_data_set_that_was_cut_off_is_refused_and_held(
    scp: Scp, sender: Sender, keep: int
) -> None:
    image = ct_slice(1, STUDY, SERIES)
    content = data_set(image)[:keep]
    answers = {sender.store(content, image.SOPInstanceUID) for _ in range(2)}
    ((status, comment),) = answers
    assert status == 0xC000
    assert "cut off" in comment or "value representation" in comment
    ((arrival, found),) = scp.kept()  # held once, however often it is sent
    assert found.held
    assert (arrival.status, arrival.comment) == (status, comment)
    assert scp.body(found).endswith(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SOPInstanceUID": "1.2.3.4"}, "another SOP"),
        ({"SOPClassUID": MRImageStorage}, "another SOP"),
        ({"StudyInstanceUID": "../../x"}, "Study Instance UID"),
        ({"SeriesInstanceUID": ""}, "Series Instance UID"),
    ],
)
def test_a_data_set_that_is_not_what_was_said_is_refused(
    scp: Scp, sender: Sender, change: dict[str, str], words: str
) -> None:
    uid = generate_uid()
    image = ct_slice(1, STUDY, SERIES, SOPInstanceUID=uid)
    with warnings.catch_warnings(action="ignore"):  # pydicom does not like it either
        for keyword, value in change.items():
            setattr(image, keyword, value)
    status, comment = sender.store(data_set(image), uid)
    assert (status, words in comment) == (0xA900, True)


def test_another_class_than_agreed_on_is_refused(scp: Scp, sender: Sender) -> None:
    image = ct_slice(1, STUDY, SERIES)
    answer = sender.store(data_set(image), image.SOPInstanceUID, MRImageStorage)
    assert answer.status == 0xA900


def test_a_full_disk_is_said_and_images_come_again_when_there_is_room(
    scp: Scp, sender: Sender
) -> None:
    image = ct_slice(1, STUDY, SERIES)
    scp.disk.free = 0
    status, comment = sender.store(data_set(image), image.SOPInstanceUID)
    assert (status, "full" in comment) == (0xA700, True)
    scp.disk.free = 1 << 40
    assert sender.store(data_set(image), image.SOPInstanceUID).status == 0
    assert len(scp.kept()) == 1


def test_a_medium_that_does_not_sync_gets_no_success(scp: Scp, sender: Sender) -> None:
    image = ct_slice(1, STUDY, SERIES)
    scp.disk.sync_error = OSError(5, "Input/output error")
    assert sender.store(data_set(image), image.SOPInstanceUID).status == 0xA700
    scp.disk.sync_error = None
    assert sender.store(data_set(image), image.SOPInstanceUID).status == 0


@pytest.mark.parametrize(
    ("title", "callers"),
    [
        ("STRANGER", [Caller("CT1", "127.0.0.1")]),
        ("CT1", [Caller("CT1", "10.0.0.9")]),
        ("ct1", [Caller("CT1", "127.0.0.1")]),
        ("CT1", []),
    ],
)
def test_a_stranger_is_rejected_and_the_core_is_told(
    scp: Scp, title: str, callers: list[Caller]
) -> None:
    scp.admissions.write(callers)
    with association(scp.port, title) as opened:
        assert opened is None
    told = scp.heard.told.get(timeout=60)
    assert told == Called(title=title, address="127.0.0.1", admitted=False)


def test_a_list_that_cannot_be_read_admits_nobody(scp: Scp) -> None:
    (scp.folder / "admitted.json").write_bytes(b"{")
    with association(scp.port) as opened:
        assert opened is None


def test_one_click_is_enough_for_the_next_call(scp: Scp) -> None:
    scp.admissions.write([])
    with association(scp.port) as opened:
        assert opened is None
    scp.admissions.write([Caller("CT1", "127.0.0.1")])
    with association(scp.port) as opened:
        assert opened is not None
        assert opened.echo() == 0


def test_the_process_starts_without_the_libraries_that_only_its_services_use() -> None:
    """They take more memory than all that receives images, and come with a service's first use."""
    large = "pydicom", "pynetdicom", "numpy", "PIL", "aiohttp"
    program = "import sys, lianzhen_edge.dicom.scp; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not set(large) & set(loaded)


def test_a_leap_of_the_wall_clock_ends_no_association(
    scp: Scp, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = time.time
    for leap in (3600, -3600, -int(wall())):
        monkeypatch.setattr("time.time", lambda leap=leap: wall() + leap)
        assert sender.echo() == 0
    image = ct_slice(1, STUDY, SERIES)
    assert sender.store(data_set(image), image.SOPInstanceUID).status == 0
