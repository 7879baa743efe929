"""Reading a Part 10 file into its elements, all of them, without reading what they say.

Images are hostile: bounded in elements and depth, and nothing here is anybody's C code. Values stay
where they lie; an element says at which bytes. Encoding: PS3.5, 7 and A; the file: PS3.10, 7.
"""

import struct
from collections.abc import Sequence
from functools import cache
from typing import Final, Literal, NamedTuple

from pydicom.datadict import dictionary_VR

from lianzhen_protocol.dicomset import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    LONG,
    PIXELS,
    SEQUENCE_END,
    UNDEFINED,
    DeflatedBroken,
    inflated,
)
from lianzhen_protocol.errors import ProtocolError

MAX_ELEMENTS: Final = 300_000
MAX_DEPTH: Final = 24
MAX_INFLATED: Final = 256 << 20
_PREAMBLE: Final = 128
_TRANSFER_SYNTAX: Final = 0x00020010
_REPRESENTATION: Final = 0x00280103


class DataSetUnreadable(ProtocolError):
    """Not a Part 10 file, or one that ends in the middle; the text says where."""

    code = "data-set-unreadable"


class Element(NamedTuple):
    """Where a value lies. ``items``: of a sequence. ``fragments``: of encapsulated pixels, each
    (begin, length), the first one being the offset table."""

    tag: int
    vr: str
    at: int
    begin: int
    length: int
    items: "Sequence[Sequence[Element]] | None" = None
    fragments: Sequence[tuple[int, int]] | None = None


class DataSet(NamedTuple):
    """``data`` is the file; of a deflated one, what its data set inflates to."""

    data: bytes
    begin: int
    transfer_syntax: str
    elements: Sequence[Element]

    def value(self, tag: int) -> bytes:
        """A value of the outermost level, in its own bytes; b"" if there is none."""
        found = next((one for one in self.elements if one.tag == tag), None)
        return b"" if found is None else self.data[found.begin : found.begin + found.length]

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of an element of two bytes."""
        raw = self.value(tag)[:2]
        order: Literal["big", "little"] = "big" if self.transfer_syntax == BIG_ENDIAN else "little"
        return int.from_bytes(raw, order) if len(raw) == 2 else default

    def text(self, tag: int) -> str:
        """A value that is plain ASCII by its kind."""
        return self.value(tag).decode("ascii", "replace").strip("\0 ")


def read(file: bytes) -> DataSet:
    """All elements of a Part 10 file; DataSetUnreadable."""
    if file[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        raise DataSetUnreadable("not a DICOM file")
    meta = _Walker(file, EXPLICIT)
    begin, syntax = meta.file_meta(_PREAMBLE + 4)
    if syntax == DEFLATED:
        file, begin = _inflated(file[begin:]), 0
    walker = _Walker(file, syntax)
    elements: list[Element] = []
    walker.elements(elements, begin, len(file), 0)
    return DataSet(file, begin, syntax, elements)


def _inflated(data: bytes) -> bytes:
    try:
        return inflated(data, MAX_INFLATED)
    except DeflatedBroken as error:
        raise DataSetUnreadable(str(error)) from error


class _Walker:
    def __init__(self, data: bytes, syntax: str) -> None:
        self._data = data
        self._explicit = syntax != IMPLICIT
        order = ">" if syntax == BIG_ENDIAN else "<"
        self._tag, self._long = struct.Struct(f"{order}HH"), struct.Struct(f"{order}L")
        self._short = struct.Struct(f"{order}H")
        self._left = MAX_ELEMENTS
        self._signed = False

    def file_meta(self, at: int) -> tuple[int, str]:
        """Where group 2 ends, and the transfer syntax that it names."""
        syntax = ""
        while at < len(self._data) and self._data[at : at + 2] == b"\x02\0":
            head = self._head(at)
            at = head.begin + head.length
            if head.tag == _TRANSFER_SYNTAX:
                syntax = self._data[head.begin : at].decode("ascii", "replace").strip("\0 ")
        if not syntax:
            raise DataSetUnreadable("the file does not name its transfer syntax")
        return at, syntax

    def elements(self, found: list[Element], at: int, end: int, depth: int) -> int:
        """Read elements into ``found`` up to ``end``, or to the delimiter of their item."""
        while at < end:
            head = self._head(at)
            if head.tag == ITEM_END and depth:
                return head.begin
            if head.tag >> 16 == 0xFFFE:
                raise DataSetUnreadable(f"a delimiter out of place at byte {at}")
            at = self._take(found, head, end, depth)
        return at

    def _take(self, found: list[Element], head: Element, end: int, depth: int) -> int:
        self._left -= 1
        if self._left < 0:
            raise DataSetUnreadable(f"more than {MAX_ELEMENTS} elements")
        if head.length == UNDEFINED and (head.tag == PIXELS or head.vr in ("OB", "OW")):
            fragments, after = self._fragments(head.begin, end)
            whole = head._replace(length=after - head.begin, fragments=fragments)
        elif head.vr == "SQ" or head.length == UNDEFINED:
            items, after = self._sequence(head, end, depth)
            whole = head._replace(vr="SQ", length=after - head.begin, items=items)
        else:
            whole, after = head, head.begin + head.length
        if after > end:
            raise DataSetUnreadable(f"the data set was cut off at byte {end}")
        if head.tag == _REPRESENTATION and head.length == 2 and depth == 0:
            self._signed = any(self._data[head.begin : after])
        found.append(whole)
        return after

    def _head(self, at: int) -> Element:
        try:
            group, number = self._tag.unpack_from(self._data, at)
            tag = group << 16 | number
            if group == 0xFFFE or not self._explicit:
                vr = "" if group == 0xFFFE else self._vr(tag)
                return Element(tag, vr, at, at + 8, self._long.unpack_from(self._data, at + 4)[0])
            vr = self._data[at + 4 : at + 6].decode("ascii", "replace")
            if not (vr.isalpha() and vr.isupper()):
                raise DataSetUnreadable(f"no value representation at byte {at + 4}")
            if vr in LONG:
                begin, length = at + 12, self._long.unpack_from(self._data, at + 8)[0]
            else:
                begin, length = at + 8, self._short.unpack_from(self._data, at + 6)[0]
        except struct.error as error:
            raise DataSetUnreadable(f"the data set was cut off at byte {at}") from error
        return Element(tag, self._known(tag, vr, length), at, begin, length)

    def _known(self, tag: int, vr: str, length: int) -> str:
        """What somebody who did not know an element wrote as UN has its own kind (CP-246)."""
        if vr != "UN" or length == UNDEFINED or tag >> 16 & 1:
            return vr
        known = self._vr(tag)
        return "UN" if known == "SQ" else known

    def _vr(self, tag: int) -> str:
        kind = _dictionary(tag)
        return ("SS" if self._signed else "US") if kind == "xs" else kind

    def _sequence(
        self, head: Element, end: int, depth: int
    ) -> tuple[Sequence[Sequence[Element]], int]:
        if depth >= MAX_DEPTH:
            raise DataSetUnreadable(f"sequences within sequences, more than {MAX_DEPTH} deep")
        explicit, at = self._explicit, head.begin
        stop = end if head.length == UNDEFINED else head.begin + head.length
        if stop > end:
            raise DataSetUnreadable(f"the data set was cut off at byte {end}")
        if head.vr == "UN":
            self._explicit = False  # PS3.5, 6.2.2: whatever the transfer syntax
        items: list[list[Element]] = []
        try:
            while at < stop:
                item = self._head(at)
                if item.tag == SEQUENCE_END:
                    at = item.begin
                    break
                at = self._item(items, item, stop, depth)
            return items, at
        finally:
            self._explicit = explicit

    def _item(self, items: list[list[Element]], item: Element, stop: int, depth: int) -> int:
        self._left -= 1
        if item.tag != ITEM or self._left < 0:
            raise DataSetUnreadable(f"no item at byte {item.at}")
        own: list[Element] = []
        items.append(own)
        if item.length == UNDEFINED:
            return self.elements(own, item.begin, stop, depth + 1)
        after = item.begin + item.length
        if after > stop:
            raise DataSetUnreadable(f"the data set was cut off at byte {stop}")
        self.elements(own, item.begin, after, depth + 1)
        return after

    def _fragments(self, at: int, end: int) -> tuple[Sequence[tuple[int, int]], int]:
        found: list[tuple[int, int]] = []
        while True:
            item = self._head(at)
            if item.tag == SEQUENCE_END:
                return found, item.begin
            self._left -= 1
            at = item.begin + item.length
            if item.tag != ITEM or at > end or self._left < 0:
                raise DataSetUnreadable(f"no fragment at byte {item.at}")
            found.append((item.begin, item.length))


_EITHER: Final = {
    "US or SS": "xs",
    "OB or OW": "OW",
    "US or OW": "OW",
    "US or SS or OW": "OW",
}


@cache
def _dictionary(tag: int) -> str:
    """An element's kind where it is not written; ``xs`` where pixels decide (PS3.5, A.1)."""
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    if tag & 0xFFFF == 0:
        return "UL"
    try:
        found = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return _EITHER.get(found, found)
