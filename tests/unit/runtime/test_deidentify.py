"""Every attribute of PS3.15's table, in the clear and within a sequence, read back by dcmtk."""

import re
import subprocess
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lianzhen_runtime.deidentify import NotCleaned, Plan, action_of, actions, deidentify
from support.modality import DCMTK, ct_slice

PLAN = Plan(b"k" * 32, "T-0001")
SECRETS: Final = ("SECRET", "4711", "20260131", "093011", "1.2.826.99")
VALUES: Final[dict[str, Any]] = {
    "AE": "SECRET", "AS": "099Y", "CS": "SECRET", "DA": "20260131", "DS": "4711", "IS": "4711",
    "DT": "20260131093011", "LO": "SECRET", "LT": "SECRET", "PN": "SECRET^NAME", "SH": "SECRET",
    "ST": "SECRET", "TM": "093011", "UC": "SECRET", "UR": "SECRET", "UT": "SECRET",
    "UI": "1.2.826.99.1", "OB": b"SECRET", "OW": b"SECRET", "UN": b"SECRET", "OF": b"SECRETSE",
    "OD": b"SECRETSE", "US": 4711, "SS": 4711, "UL": 4711, "SL": 4711, "FL": 4711.0, "FD": 4711.0,
}  # fmt: skip


def tags() -> dict[int, str]:
    """The table's attributes that stand in data sets and that our dictionary has: VR by tag."""
    found = {}
    for name in actions():
        tag = int(name.replace("x", "0"), 16)
        if tag >> 16 in (0x0000, 0x0002, 0x0004):
            continue
        try:
            found[tag] = dictionary_VR(tag).split()[0]
        except KeyError:
            continue
    return found


def content(image: Dataset) -> bytes:
    out = BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()


def filled(image: Dataset) -> Dataset:
    """With every attribute of the table; in its sequences a few."""
    few = Dataset()
    few.PatientName, few.PatientID, few.StudyDate = "SECRET^NAME", "SECRET", "20260131"
    few.ReferencedSOPInstanceUID, few.CodeMeaning = "1.2.826.99.5", "a meaning"
    for tag, vr in tags().items():
        value = Sequence([few]) if vr == "SQ" else VALUES[vr]
        image[tag] = DataElement(tag, vr, value)
    return image


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What dcmdump reads of an image that had all of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = filled(ct_slice(1, "1.2.826.99.2", "1.2.826.99.3"))
        image.SOPInstanceUID = "1.2.826.99.4"
        # within one that the table leaves alone, and what is nobody's
        image.AnatomicRegionSequence = Sequence([filled(Dataset())])
        block = image.private_block(0x0011, "SECRET MAKER", create=True)
        block.add_new(1, "LO", "SECRET")
        image[0x00189999] = DataElement(0x00189999, "UN", b"SECRET")
        path = tmp_path_factory.mktemp("clean") / "clean.dcm"
        path.write_bytes(deidentify(content(image), PLAN))
    done = subprocess.run(
        [DCMTK / "dcmdump", "+L", "+U8", path], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_nothing_that_was_said_is_left(dumped: str) -> None:
    assert len(tags()) > 550
    for secret in SECRETS:
        assert secret not in dumped


def test_each_attribute_is_treated_as_the_table_says(dumped: str) -> None:
    lines = re.findall(r"^\(([0-9a-f]{4}),([0-9a-f]{4})\) (..) (.*?) +# ", dumped, re.MULTILINE)
    found = {int(group + number, 16): (vr, value) for group, number, vr, value in lines}
    given = {0x00100010, 0x00100020, 0x00120063, 0x00120064}
    for tag, vr in tags().items():
        action = action_of(tag)
        if tag in given:
            continue
        if action == "X":
            assert tag not in found, hex(tag)
        elif vr == "UI":
            assert re.fullmatch(r"\[2\.25\.\d{1,39}\]", found[tag][1]), hex(tag)
        elif action in ("Z", "X/Z") and vr != "SQ":
            assert found[tag][1] == "(no value available)", hex(tag)
        elif vr != "SQ":
            assert found[tag][1] != "(no value available)", hex(tag)
    assert found[0x00100010] == ("PN", "[TEACHING^CASE]")
    assert found[0x00100020] == ("LO", "[T-0001]")
    assert found[0x00120062] == ("CS", "[YES]")
    assert found[0x00280303] == ("CS", "[REMOVED]")
    assert found[0x00120063][1] == "[PS3.15 E.1 Basic Profile]"
    assert not [tag for tag in found if (tag >> 16) % 2]
    assert "[113100]" in dumped


def cleaned(image: Dataset, plan: Plan = PLAN) -> Dataset:
    return pydicom.dcmread(BytesIO(deidentify(content(image), plan)))


def test_uids_are_the_same_wherever_they_stand_and_pixels_stay() -> None:
    one, other = (ct_slice(number, "1.2.826.1", "1.2.826.2") for number in (1, 2))
    reference = Dataset()
    reference.ReferencedSOPClassUID = one.SOPClassUID
    reference.ReferencedSOPInstanceUID = one.SOPInstanceUID
    other.SourceImageSequence = Sequence([reference])
    first, second = cleaned(one), cleaned(other)
    assert first.StudyInstanceUID == second.StudyInstanceUID != one.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert second.SourceImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SourceImageSequence[0].ReferencedSOPClassUID == one.SOPClassUID
    assert (first.SOPClassUID, first.PixelData) == (one.SOPClassUID, one.PixelData)
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert cleaned(one, Plan(b"x" * 32, "T")).StudyInstanceUID != first.StudyInstanceUID


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
def test_dates_are_shifted_together_and_a_birth_date_goes() -> None:
    image = ct_slice(
        1, "1.2", "1.3", StudyDate="20260131", AcquisitionDateTime="20260201101500.5+0800",
        StudyTime="101500", PatientBirthDate="19700101", SeriesDate="nonsense",
        ScheduledProcedureStepStartDate="20260130",
    )  # fmt: skip
    found = cleaned(image, Plan(b"k" * 32, "T", shift_days=-31))
    assert (found.StudyDate, found.StudyTime) == ("20251231", "101500")
    assert found.AcquisitionDateTime == "20260101101500.5+0800"
    assert (found.PatientBirthDate, found.SeriesDate) == ("", "")
    assert found.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [code.CodeValue for code in found.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]


def test_a_name_in_any_bytes_is_gone() -> None:
    name = "王^镕基".encode("gb18030")
    image = ct_slice(1, "1.2", "1.3", SpecificCharacterSet="GB18030", PatientName="王^镕基")
    file = content(image)
    assert name in file
    assert name not in deidentify(file, PLAN)


@pytest.mark.parametrize("name", ["examples_jpeg2k.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_compressed_pixels_stay_as_they_are(name: str) -> None:
    before = pydicom.dcmread(str(get_testdata_file(name)))
    after = cleaned(before)
    assert after.PixelData == before.PixelData
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID


def test_what_is_no_image_stays_out() -> None:
    report = Path(str(get_testdata_file("reportsi.dcm"))).read_bytes()
    with pytest.raises(NotCleaned, match="no image"):
        deidentify(report, PLAN)
