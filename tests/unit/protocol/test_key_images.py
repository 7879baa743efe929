"""What marks come to on both sides, and how a report names what was marked."""

from typing import Any

import msgspec
import pytest

from lianzhen_protocol import imaging
from lianzhen_protocol.imaging import ImageStored, Instance, Study, instance_key, study_key
from lianzhen_protocol.key_images import (
    MOST_IN_REPORT,
    ImageKeyed,
    Side,
    in_report,
    keyed,
    keys_of,
    name_in_report,
)
from support.memory_sheets import MemorySheets

NODE = "n0123456789ab"
STUDY = study_key(NODE, "1.2.3")
EXPERT, DOCTOR = "e-1", "d-1"


def image(number: int, **more: Any) -> ImageStored:
    sha256 = f"{number:064x}"
    body = ImageStored(
        instance=instance_key(NODE, sha256),
        study=STUDY,
        sha256=sha256,
        size=1000,
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        sop_uid=f"1.2.3.9.{number}",
        study_uid="1.2.3",
        series_uid="1.2.3.9",
        transfer_syntax="1.2.840.10008.1.2.1",
        modality="CT",
        series_number=2,
        instance_number=number,
        study_date="20261124",
        received_ms=1000 + number,
    )
    return msgspec.structs.replace(body, **more)


def sheets_with(*images: ImageStored) -> MemorySheets:
    sheets = MemorySheets()
    for one in images:
        imaging.stored(sheets, NODE, one)
    return sheets


def mark(number: int, keyed: bool = True, by: str = EXPERT, frame: int = 1) -> ImageKeyed:
    return ImageKeyed(
        instance=image(number).instance,
        frame=frame,
        keyed=keyed,
        by=by,
        by_name="陈主任",
        keyed_ms=5000,
    )


def test_a_mark_comes_goes_and_is_each_sides_own() -> None:
    sheets = sheets_with(image(1), image(2))
    assert keyed(sheets, Side.CENTRE, mark(1))
    assert not keyed(sheets, Side.CENTRE, mark(1))  # once is as good as twice
    assert keyed(sheets, Side.CLINIC, mark(1, by=DOCTOR))
    assert {(key.side, key.by) for key in keys_of(sheets, STUDY)} == {
        ("centre", EXPERT),
        ("clinic", DOCTOR),
    }
    assert keyed(sheets, Side.CLINIC, mark(1, keyed=False, by=DOCTOR))
    assert not keyed(sheets, Side.CLINIC, mark(1, keyed=False, by=DOCTOR))
    assert [key.side for key in keys_of(sheets, STUDY)] == ["centre"]


def test_a_mark_on_what_is_not_here_is_nothing() -> None:
    sheets = sheets_with(image(1))
    assert not keyed(sheets, Side.CLINIC, mark(2))
    assert keys_of(sheets, STUDY) == []


def test_a_report_names_its_authors_marks_in_the_order_of_reading() -> None:
    cine = image(3, modality="US", frames=40)
    sheets = sheets_with(image(10), image(2), cine)
    for body in (mark(10), mark(2), mark(3, frame=12)):
        keyed(sheets, Side.CENTRE, body)
    keyed(sheets, Side.CLINIC, mark(2, by=EXPERT))  # under the same name, but not at the centre
    assert in_report(sheets, [STUDY, "0" * 32], EXPERT) == [
        "CT 2026-11-24 序列 2 图像 2",
        "US 2026-11-24 序列 2 图像 3 第 12 帧",
        "CT 2026-11-24 序列 2 图像 10",
    ]
    assert in_report(sheets, [STUDY], "somebody else") == []


def test_a_report_names_so_many_at_most() -> None:
    numbers = range(1, MOST_IN_REPORT + 5)
    sheets = sheets_with(*(image(number) for number in numbers))
    for number in numbers:
        keyed(sheets, Side.CENTRE, mark(number))
    assert len(in_report(sheets, [STUDY], EXPERT)) == MOST_IN_REPORT


@pytest.mark.parametrize("text", ["建议手术", "CT; 建议", "ct", "C", "\u202eTC"])
def test_nothing_that_a_modality_writes_reads_as_the_experts_words(text: str) -> None:
    sheets = sheets_with(image(1, modality=text, study_date=text))
    study, found = sheets.get(Study, STUDY), sheets.get(Instance, image(1).instance)
    assert study is not None
    assert found is not None
    assert name_in_report(study, found, 1) == "序列 2 图像 1"
