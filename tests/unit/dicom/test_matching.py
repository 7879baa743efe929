"""Matching (PS3.4, C.2.2.2): each kind of key, what is answered, and text in the asker's set."""

import contextlib
import io
import zlib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from lianzhen_edge.dicom.services import matching
from lianzhen_edge.dicom.services.matching import Attributes, QueryBroken
from lianzhen_protocol import dicomset

NAME, NUMBER, BORN, SEX, UID = 0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x0020000D
STEPS, DATE, TIME, MODALITY = 0x00400100, 0x00400002, 0x00400003, 0x00080060
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

DUE: Attributes = {
    NAME: "王小明",
    NUMBER: "123456789",
    BORN: "19491231",
    SEX: "F",
    UID: "2.25.7",
    STEPS: [{MODALITY: "US", DATE: "20261124", TIME: "093000"}],
}


@pytest.mark.parametrize(
    ("tag", "key", "fits"),
    [
        (NAME, "", True), (NAME, "*", True), (NAME, "王小明", True), (NAME, "王小明^", True),
        (NAME, "王*", True), (NAME, "王?明", True), (NAME, "*明", True), (NAME, "李*", False),
        (NAME, "王?", False), (NUMBER, "123456789", True), (NUMBER, "1234*", True),
        (NUMBER, "12345678", False), (UID, "2.25.7", True), (UID, "2.25.8\\2.25.7", True),
        (UID, "2.25.*", False), (BORN, "19491231", True), (BORN, "19491230", False),
        (BORN, "19490101-19500101", True), (BORN, "-19500101", True), (BORN, "19500101-", False),
        (BORN, "1949.12.31", True), (SEX, "M", False), (0x00080050, "A1", False),
    ],
)  # fmt: skip
def test_a_key_matches_what_the_standard_says(tag: int, key: str, fits: bool) -> None:
    assert matching.matches({tag: key}, DUE) is fits


@pytest.mark.parametrize(
    ("inner", "fits"),
    [
        ({}, True), ({MODALITY: ""}, True), ({MODALITY: "US"}, True), ({MODALITY: "CT"}, False),
        ({DATE: "20261124", MODALITY: "US"}, True), ({DATE: "20261125-"}, False),
        ({DATE: "20261123-20261125", TIME: "0800-0930"}, True), ({TIME: "0931-1000"}, False),
        ({TIME: "09"}, True), ({TIME: "09:30:00"}, True),
    ],
)  # fmt: skip
def test_a_sequence_matches_by_one_of_its_items(inner: Attributes, fits: bool) -> None:
    assert matching.matches({STEPS: [inner]}, DUE) is fits
    assert matching.matches({STEPS: []}, DUE)


def test_an_answer_has_what_was_asked_and_nothing_else() -> None:
    asked: Attributes = {NAME: "", 0x00081110: [], STEPS: [{MODALITY: ""}], 0x00101030: ""}
    found = matching.answer(asked, DUE)
    assert found == {NAME: "王小明", 0x00081110: [], STEPS: [{MODALITY: "US"}], 0x00101030: ""}
    whole = matching.answer({STEPS: [{}]}, DUE)
    assert whole == {STEPS: DUE[STEPS]}


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize(
    ("asked", "used"),
    [("", "ISO_IR 192"), ("ISO_IR 192", "ISO_IR 192"), ("GB18030", "GB18030"), ("GBK", "GBK"),
     ("ISO_IR 100", "ISO_IR 192")],
)  # fmt: skip
def test_text_is_answered_in_the_set_that_was_asked_for_if_it_can_say_it(
    syntax: str, asked: str, used: str
) -> None:
    content = matching.write(DUE, syntax, asked)
    found = decode(
        io.BytesIO(content),
        is_implicit_vr=syntax == IMPLICIT,
        is_little_endian=syntax != BIG,
        deflated=syntax == DEFLATED,
    )
    assert (found.SpecificCharacterSet, str(found.PatientName)) == (used, "王小明")
    assert matching.read(content, syntax) == {**DUE, matching.CHARSET: used}


def test_a_name_that_gbk_cannot_say_is_said_in_utf_8() -> None:
    content = matching.write({NAME: "\U00020bb7田"}, EXPLICIT, "GBK")
    assert matching.read(content, EXPLICIT)[matching.CHARSET] == "ISO_IR 192"


@pytest.mark.parametrize("charset", ["GB18030", "GBK", "ISO_IR 192", ""])
def test_a_query_in_any_of_the_sets_is_understood(charset: str) -> None:
    codec = "utf-8" if charset == "ISO_IR 192" else "gb18030"
    content = b"".join(
        tag + vr + len(value).to_bytes(2, "little") + value
        for tag, vr, value in (
            (b"\x08\0\x05\0", b"CS", charset.encode().ljust(len(charset) + len(charset) % 2)),
            (b"\x10\0\x10\0", b"PN", "王*明 ".encode(codec).ljust(8)[:8]),
        )
    )
    assert matching.text(matching.read(content, EXPLICIT), NAME).startswith("王*")


def deep(levels: int) -> bytes:
    """Sequences within sequences, each of undefined length."""
    begin = b"\x40\0\x00\x01SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return begin * levels + end * levels


@pytest.mark.parametrize(
    "content",
    [deep(10), deep(20_000), b"\x10\0\x10\0PN\xff\x7fabc", bytes(100), b"\xff" * 100],
    ids=["deep", "deeper", "cut", "zeros", "ones"],
)
def test_what_is_no_query_is_said_so(content: bytes) -> None:
    try:
        found = matching.read(content, EXPLICIT)
    except QueryBroken:
        return
    assert matching.matches(found, DUE) in (True, False)  # harmless


def test_what_inflates_without_end_is_refused() -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(bytes(matching.MAX_PLAIN_BYTES + 1)) + packer.flush()
    with pytest.raises(QueryBroken, match="without end"):
        matching.read(bomb, DEFLATED)


@given(st.binary(max_size=200), st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED]))
def test_any_bytes_are_a_query_or_are_refused(content: bytes, syntax: str) -> None:
    with contextlib.suppress(QueryBroken):
        matching.matches(matching.read(content, syntax), DUE)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_fit_as_a_plain_search_says(pattern: str, value: str) -> None:
    def fits(pattern: str, value: str) -> bool:
        if not pattern:
            return not value
        if pattern[0] == "*":
            return any(fits(pattern[1:], value[at:]) for at in range(len(value) + 1))
        return bool(value) and pattern[0] in ("?", value[0]) and fits(pattern[1:], value[1:])

    assert dicomset.like(pattern, value) is fits(pattern, value)


def test_a_hostile_pattern_costs_no_more_than_its_length_allows() -> None:
    assert not dicomset.like("*a" * 2000 + "b", "a" * 4000)


def test_what_pydicom_says_in_either_encoding_is_read_alike() -> None:
    asked = Dataset()
    asked.PatientID, asked.StudyInstanceUID = "1*", ["1.2", "1.3"]
    for implicit, little in product((True, False), (True, False)):
        if implicit and not little:
            continue
        content = encode(asked, implicit, little)
        assert content is not None
        syntax = IMPLICIT if implicit else EXPLICIT if little else BIG
        assert matching.read(content, syntax) == {NUMBER: "1*", UID: "1.2\\1.3"}
