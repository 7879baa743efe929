"""What records about images come to, on sheets that are a dictionary."""

from typing import Any

import msgspec
import pytest

from lianzhen_protocol import imaging
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.imaging import (
    ImageReceived,
    ImageStored,
    Instance,
    Scanner,
    ScannerAdmitted,
    ScannerRemoved,
    Sent,
    Study,
    instance_key,
    is_uid,
    scanner_key,
    study_key,
)
from lianzhen_protocol.keepers import give_study
from support.memory_sheets import MemorySheets

NODE = "n0123456789ab"


def manifest(number: int = 1, study: str = "1.2.3", **more: Any) -> ImageStored:
    sha256 = f"{number:064x}"
    body = ImageStored(
        instance=instance_key(NODE, sha256),
        study=study_key(NODE, study),
        sha256=sha256,
        size=1000,
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        sop_uid=f"{study}.9.{number}",
        study_uid=study,
        series_uid=f"{study}.9",
        transfer_syntax="1.2.840.10008.1.2.1",
        modality="CT",
        instance_number=number,
        received_ms=1000 + number,
        sent=Sent(patient_id="P1", name="王^伟"),
    )
    return msgspec.structs.replace(body, **more)


@pytest.mark.parametrize("good", ["1", "1.2.840.10008.1.2", "2.25." + "9" * 58, "1.2.0.3", "1.02"])
def test_a_uid(good: str) -> None:
    assert is_uid(good)


@pytest.mark.parametrize(
    "bad",
    [
        *("", ".", "1.", ".1", "1..2", "1.2.a", "../../etc/passwd", "1.2/3", "1.2\n", "1.2\0"),
        *("一.二", "2.25." + "9" * 60, "1 2", "%2e%2e", "1.2\\1.3"),
    ],
)
def test_no_uid(bad: str) -> None:
    assert not is_uid(bad)


def test_keys_are_of_their_node_and_name_nobody() -> None:
    keys = {study_key(NODE, "1.2.3"), study_key("n111111111111", "1.2.3"), study_key(NODE, "1.2.4")}
    keys |= {instance_key(NODE, "1.2.3"), scanner_key(NODE, "1.2.3", "")}
    assert len(keys) == 5
    assert all(len(key) == 32 and "1.2.3" not in key for key in keys)


def test_a_study_grows_by_its_images_each_once() -> None:
    sheets = MemorySheets()
    for number in (1, 2, 2, 3, 1):
        imaging.stored(sheets, NODE, manifest(number, modality="CT" if number < 3 else "SR"))
    (study,) = sheets.find(Study)
    assert (study.stored, study.size, study.modalities) == (3, 3000, ("CT", "SR"))
    assert (study.first_ms, study.last_ms) == (1001, 1003)
    assert study.sent.name == "王^伟"
    assert len(sheets.find(Instance, owner=study.id, state="stored")) == 3


def test_receipts_count_once_and_only_for_the_right_bytes() -> None:
    sheets = MemorySheets()
    one = manifest()
    imaging.stored(sheets, NODE, one)
    wrong = ImageReceived(instance=one.instance, sha256="f" * 64, received_ms=5)
    right = ImageReceived(instance=one.instance, sha256=one.sha256, received_ms=6)
    stranger = ImageReceived(instance="0" * 32, sha256=one.sha256, received_ms=6)
    told = [imaging.received(sheets, body) for body in (wrong, stranger, right, right)]
    assert told == [False, False, True, False]
    (study,) = sheets.find(Study)
    assert study.received == 1
    assert sheets.find(Instance)[0].state == "safe"


def test_a_study_is_given_and_taken_back() -> None:
    sheets = MemorySheets()
    give_study(sheets, study_key(NODE, "1.2.3"), "patient-1")
    assert sheets.find(Study) == []
    imaging.stored(sheets, NODE, manifest(), "patient-1")
    (study,) = sheets.find(Study, owner="patient-1", state="assigned")
    give_study(sheets, study.id, "")
    imaging.stored(sheets, NODE, manifest(2))
    (study,) = sheets.find(Study, state="unassigned")
    assert (study.patient_id, study.stored) == ("", 2)


def test_a_study_is_seen_once_by_the_first() -> None:
    sheets = MemorySheets()
    body = imaging.StudySeen(study=study_key(NODE, "1.2.3"), seen_by="赵", seen_ms=7)
    assert not imaging.seen(sheets, body)
    imaging.stored(sheets, NODE, manifest())
    later = msgspec.structs.replace(body, seen_by="钱", seen_ms=9)
    assert [imaging.seen(sheets, one) for one in (body, later)] == [True, False]
    assert (sheets.find(Study)[0].seen_by, sheets.find(Study)[0].seen_ms) == ("赵", 7)


def test_what_came_after_somebody_looked_was_not_seen() -> None:
    sheets = MemorySheets()
    imaging.stored(sheets, NODE, manifest())
    first = imaging.StudySeen(study=study_key(NODE, "1.2.3"), seen_by="赵", seen_ms=7, images=1)
    more = msgspec.structs.replace(first, seen_by="钱", seen_ms=9, images=2)
    assert [imaging.seen(sheets, one) for one in (first, first, more, more, first)] == [
        *(True, False, True, False, False),
    ]
    (study,) = sheets.find(Study)
    assert (study.seen_by, study.seen_images) == ("钱", 2)


def test_an_image_under_a_name_that_is_not_its_own() -> None:
    imaging.check_names(NODE, manifest())
    for field, value in (("study", "0" * 32), ("instance", "0" * 32), ("study_uid", "1.2.4")):
        with pytest.raises(RecordError) as caught:
            imaging.check_names(NODE, msgspec.structs.replace(manifest(), **{field: value}))
        assert caught.value.code == "image-misnamed"
    with pytest.raises(RecordError):
        imaging.check_names("n111111111111", manifest())


def test_a_modality_is_admitted_and_removed_by_name() -> None:
    sheets = MemorySheets()
    key = scanner_key(NODE, "CT1", "10.0.0.9")
    imaging.removed(sheets, ScannerRemoved(scanner=key, by="a1"))
    assert sheets.find(Scanner) == []
    body = ScannerAdmitted(scanner=key, title="CT1", address="10.0.0.9", by="a1", by_name="李")
    imaging.admitted(sheets, NODE, body)
    assert sheets.find(Scanner, state="admitted")[0].by_name == "李"
    imaging.removed(sheets, ScannerRemoved(scanner=key, by="a2"))
    assert sheets.find(Scanner)[0].state == "removed"
    with pytest.raises(RecordError):
        imaging.admitted(sheets, NODE, msgspec.structs.replace(body, title="CT2"))


def test_the_images_of_a_study_in_reading_order() -> None:
    sheets = MemorySheets()
    for number in (10, 2, 1):
        imaging.stored(sheets, NODE, manifest(number, series_number=1))
    imaging.stored(sheets, NODE, manifest(4, series_number=0))
    ordered = sorted(sheets.find(Instance), key=Instance.order)
    assert [found.instance_number for found in ordered] == [4, 1, 2, 10]
