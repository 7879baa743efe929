"""Measurements of Structured Reports: dcmtk's own sample beside dcmtk, and an ultrasound's tree."""

import re
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from lianzhen_runtime import measurements
from lianzhen_runtime.measurements import Measurement, NoMeasurements, read_measurements
from support.modality import DCMTK, ultrasound_report


def content(report: Dataset) -> bytes:
    out = BytesIO()
    report.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_dcmtks_sample_has_what_dcmtk_says() -> None:
    path = Path(str(get_testdata_file("test-SR.dcm")))
    told = subprocess.run(
        [DCMTK / "dsrdump", "+U8", path], capture_output=True, text=True, check=True
    )
    wanted = re.findall(r'NUM:\(,,"(.*?)"\)="(.*?)" \((.*?),', told.stdout)
    found = read_measurements(path.read_bytes())
    assert [(one.name, one.value, one.unit) for one in found] == wanted
    assert len(wanted) == 2
    assert (found[0].where, found[0].how) == ("", "Sample Code")


def test_an_echocardiography_report_is_a_table_in_its_own_words(tmp_path: Path) -> None:
    report = ultrasound_report()
    assert read_measurements(content(report)) == [
        Measurement(
            where="超声心动图 › 左心室 › 胎儿 A", name="左室舒张末期内径", value="47.5", unit="mm",
            how="平均值",
        ),
        Measurement(
            where="超声心动图 › 左心室 › 胎儿 A", name="Ejection Fraction", value="62", unit="%",
            how="",
        ),
        Measurement(where="超声心动图", name="Count", value="3", unit="", how=""),
    ]  # fmt: skip
    path = tmp_path / "us.dcm"
    path.write_bytes(content(report))
    told = subprocess.run(
        [DCMTK / "dsrdump", "+U8", "-Er", path], capture_output=True, text=True, check=True
    )
    for value in ("47.5", "62", "3"):
        assert f'"{value}"' in told.stdout


def nested(depth: int, kind: str = "CONTAINER", wide: int = 1) -> bytes:
    def item(inner: list[Dataset]) -> Dataset:
        found = Dataset()
        found.RelationshipType, found.ValueType = "CONTAINS", kind
        if inner:
            found.ContentSequence = Sequence(inner)
        return found

    inner: list[Any] = [item([]) for _ in range(wide)]
    for _ in range(depth):
        inner = [item(inner)]
    root = item(inner)
    root.file_meta = FileMetaDataset()
    root.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    root.SOPClassUID, root.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.3"
    return content(root)


def test_a_tree_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_measurements(nested(10)) == []
    with pytest.raises(NoMeasurements, match="deep"):
        read_measurements(nested(40))
    monkeypatch.setattr(measurements, "MAX_NODES", 100)
    with pytest.raises(NoMeasurements, match="items"):
        read_measurements(nested(1, wide=101))
    monkeypatch.setattr(measurements, "MAX_ROWS", 3)
    with pytest.raises(NoMeasurements, match="measurements"):
        read_measurements(nested(0, "NUM", wide=4))
    with pytest.raises(NoMeasurements, match="large"):
        read_measurements(bytes(measurements.MAX_BYTES + 1))
    with pytest.raises(NoMeasurements, match="content"):
        read_measurements(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())


def test_what_has_a_number_without_a_value_is_still_a_row() -> None:
    (row,) = read_measurements(nested(0, "NUM"))
    assert (row.name, row.value, row.unit) == ("", "", "")
    assert pydicom.dcmread(BytesIO(nested(0, "NUM"))).ContentSequence
