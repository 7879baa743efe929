"""Command sets: there and back, as pydicom reads and writes them, and whatever else may come."""

import contextlib
import io
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pynetdicom import dsutils

from lianzhen_edge.dicom import dimse
from lianzhen_edge.dicom.dimse import (
    CommandBroken,
    Context,
    Field,
    Outgoing,
    Refusal,
    Request,
    Response,
    Tag,
)

CONTEXT = Context(1, "1.2.840.10008.5.1.4.31", "1.2.840.10008.1.2.1")
LISTS = (Tag.OFFENDING_ELEMENT, Tag.ATTRIBUTES)
UIDS = (
    *(Tag.AFFECTED_SOP_CLASS, Tag.REQUESTED_SOP_CLASS),
    *(Tag.AFFECTED_SOP_INSTANCE, Tag.REQUESTED_SOP_INSTANCE),
)
TEXTS = (Tag.MOVE_DESTINATION, Tag.ERROR_COMMENT, Tag.MOVE_ORIGINATOR)
NUMBERS = tuple(
    *[{value for value in vars(Tag).values() if isinstance(value, int)} - {*LISTS, *TEXTS, *UIDS}]
)

words = st.text(st.sampled_from("0123456789ABCDEF"), min_size=1, max_size=16)
uids = st.lists(st.integers(1, 99999), min_size=1, max_size=9).map(
    lambda parts: ".".join(["1", "2", *map(str, parts)])
)
shorts = st.integers(0, 0xFFFF)
elements = st.fixed_dictionaries(
    {Tag.COMMAND_FIELD: shorts, Tag.DATA_SET_TYPE: shorts},
    optional=dict.fromkeys((tag for tag in NUMBERS if tag not in (0x0100, 0x0800)), shorts)
    | dict.fromkeys(TEXTS, words)
    | dict.fromkeys(UIDS, uids)
    | dict.fromkeys(
        LISTS, st.lists(st.integers(0x00080005, 0x7FE00010), min_size=2, max_size=9).map(tuple)
    ),
)


def read_by_pydicom(content: bytes) -> dict[int, Any]:
    found = dsutils.decode(io.BytesIO(content), True, True)
    return {
        int(each.tag): tuple(map(int, each.value)) if each.VM > 1 else each.value
        for each in found
        if each.tag != 0
    }


@given(elements)
def test_what_was_encoded_is_decoded_and_pydicom_reads_the_same(wanted: dict[int, Any]) -> None:
    content = dimse.encode(wanted)
    assert dimse.decode(content) == wanted
    assert read_by_pydicom(content) == wanted
    assert struct.unpack_from("<HHLL", content) == (0, 0, 4, len(content) - 12)


@given(elements)
def test_what_pydicom_writes_is_ours_to_the_byte(wanted: dict[int, Any]) -> None:
    theirs = Dataset()
    for tag, value in wanted.items():
        theirs[tag] = pydicom_element(tag, value)
    theirs.CommandGroupLength = len(dimse.encode(wanted)) - 12
    assert dsutils.encode(theirs, True, True) == dimse.encode(wanted)


def pydicom_element(tag: int, value: Any) -> Any:
    return DataElement(tag, dictionary_VR(tag), list(value) if isinstance(value, tuple) else value)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_command_set_or_are_said_to_be_none(content: bytes) -> None:
    try:
        found = dimse.decode(content)
    except CommandBroken:
        return
    assert {Tag.COMMAND_FIELD, Tag.DATA_SET_TYPE} <= found.keys()


@given(elements, st.data())
def test_a_command_set_that_was_damaged_is_read_or_refused_and_never_read_beyond(
    wanted: dict[int, Any], data: st.DataObject
) -> None:
    content = bytearray(dimse.encode(wanted))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    kept = bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(CommandBroken):
        dimse.decode(kept)


def element(tag: int, content: bytes, group: int = 0) -> bytes:
    return struct.pack("<HHL", group, tag, len(content)) + content


WHOLE = element(0x0100, b"\x30\0") + element(0x0800, b"\x01\x01")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no element 0100"),
        (element(0x0100, b"\x30\0"), "no element 0800"),
        (WHOLE + b"\0\0", "cut off"),
        (WHOLE + struct.pack("<HHL", 0, 0x1000, 0xFFFFFFFF) + b"1.2", "longer"),
        (WHOLE + element(0x0100, b"\x30\0"), "twice"),
        (WHOLE + element(0x0010, b"AB", group=8), "group 0008"),
        (WHOLE + element(0x0900, b"\0"), "2 bytes"),
        (WHOLE + element(0x1005, b"\0\0\0"), "list of tags"),
    ],
)
def test_what_is_no_command_set_says_why(content: bytes, why: str) -> None:
    with pytest.raises(CommandBroken, match=why):
        dimse.decode(content)


def test_elements_that_nobody_reads_and_empty_ones_are_stepped_over() -> None:
    strange = element(0x0001, b"\0\0\0\0") + element(0x5010, b"XY") + element(0x0110, b"")
    assert dimse.decode(WHOLE + strange) == {0x0100: 0x30, 0x0800: 0x0101}


def test_one_tag_is_a_list_too() -> None:
    wanted = {Tag.COMMAND_FIELD: 1, Tag.DATA_SET_TYPE: 1, Tag.OFFENDING_ELEMENT: (0x00100010,)}
    assert dimse.decode(dimse.encode(wanted)) == wanted


@pytest.mark.parametrize(
    "elements", [{0x0100: 1 << 16}, {0x0100: "1"}, {0x0002: 5}, {0x5010: "X"}, {0x0000: 1}]
)
def test_what_does_not_belong_in_a_command_set_is_not_encoded(elements: dict[int, Any]) -> None:
    with pytest.raises(ValueError, match="element"):
        dimse.encode(elements)


def test_a_response_names_what_was_asked_whichever_way_it_was_said() -> None:
    asked = {
        Tag.COMMAND_FIELD: Field.N_ACTION,
        Tag.MESSAGE_ID: 7,
        Tag.REQUESTED_SOP_CLASS: "1.2.840.10008.1.20.1",
        Tag.REQUESTED_SOP_INSTANCE: "1.2.840.10008.1.20.1.1",
    }
    said = dimse.decode(dimse.reply(asked, Response(0, {Tag.ACTION_TYPE: 1}, b"data")))
    assert said == {
        Tag.AFFECTED_SOP_CLASS: "1.2.840.10008.1.20.1",
        Tag.AFFECTED_SOP_INSTANCE: "1.2.840.10008.1.20.1.1",
        Tag.COMMAND_FIELD: 0x8130,
        Tag.RESPONDED_TO: 7,
        Tag.DATA_SET_TYPE: 1,
        Tag.STATUS: 0,
        Tag.ACTION_TYPE: 1,
    }


def test_a_refusal_is_a_response_with_its_words_cut_to_what_a_comment_holds() -> None:
    asked = Request(CONTEXT, {Tag.COMMAND_FIELD: Field.C_FIND, Tag.DATA_SET_TYPE: 1})
    refusal = Refusal(0xA900, "字" + "x" * 99, {Tag.OFFENDING_ELEMENT: (0x00100010,)})
    said = dimse.decode(dimse.reply(asked.command, refusal.response()))
    assert said[Tag.ERROR_COMMENT] == "?" + "x" * 63
    assert (said[Tag.STATUS], said[Tag.OFFENDING_ELEMENT]) == (0xA900, (0x00100010,))
    assert said[Tag.RESPONDED_TO] == asked.message_id == 0


def test_a_call_of_our_own_has_its_number_and_says_whether_data_follow() -> None:
    command = {Tag.COMMAND_FIELD: Field.N_EVENT_REPORT, Tag.EVENT_TYPE: 1}
    said = dimse.decode(dimse.call(Outgoing(CONTEXT, command, b"x"), 3))
    assert said == command | {Tag.MESSAGE_ID: 3, Tag.DATA_SET_TYPE: 1}
    empty = dimse.decode(dimse.call(Outgoing(CONTEXT, command), 4))
    assert empty[Tag.DATA_SET_TYPE] == dimse.NO_DATA_SET
