"""Reading an encoded data set (PS3.5, 7) as far as storing it needs: is it whole, and what is it?

Pixels are stepped over, so this costs microseconds and no memory, and a data set that was cut off
is found out before its sender is told Success. Text is left as bytes: see ``text``.
"""

import struct
import zlib
from typing import Final, NamedTuple

IMPLICIT: Final = "1.2.840.10008.1.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

CHARSET, SOP_CLASS, SOP_UID = 0x00080005, 0x00080016, 0x00080018
STUDY_DATE, ACCESSION, MODALITY = 0x00080020, 0x00080050, 0x00080060
STUDY_DESCRIPTION, SERIES_DESCRIPTION = 0x00081030, 0x0008103E
ACQUIRED, ACQUIRED_DATE, ACQUIRED_TIME = 0x0008002A, 0x00080022, 0x00080032
CONTENT_DATE, CONTENT_TIME, ZONE = 0x00080023, 0x00080033, 0x00080201
NAME, PATIENT_ID, ISSUER, BIRTH_DATE, SEX = (
    *(0x00100010, 0x00100020, 0x00100021),
    *(0x00100030, 0x00100040),
)
STUDY_UID, SERIES_UID, SERIES_NUMBER, INSTANCE_NUMBER = (
    *(0x0020000D, 0x0020000E),
    *(0x00200011, 0x00200013),
)
FRAMES, ROWS, COLUMNS, BURNED_IN = 0x00280008, 0x00280010, 0x00280011, 0x00280301

_WANTED: Final = frozenset(
    {CHARSET, SOP_CLASS, SOP_UID, STUDY_DATE, ACCESSION, MODALITY, STUDY_DESCRIPTION}
    | {SERIES_DESCRIPTION, NAME, PATIENT_ID, ISSUER, BIRTH_DATE, SEX, STUDY_UID, SERIES_UID}
    | {SERIES_NUMBER, INSTANCE_NUMBER, FRAMES, ROWS, COLUMNS, BURNED_IN}
    | {ACQUIRED, ACQUIRED_DATE, ACQUIRED_TIME, CONTENT_DATE, CONTENT_TIME, ZONE}
)
_MAX_VALUE: Final = 1024
"""Bytes of a value that are kept; the longest of these, a description, has 64 characters."""

_LONG: Final = frozenset(
    b"OB OD OF OL OV OW SQ UC UN UR UT SV UV".split()  # 4-byte lengths; PS3.5, 7.1.2
)
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS: Final = 0x7FE00010
_UNDEFINED: Final = 0xFFFFFFFF
_MAX_DEPTH: Final = 32
_MAX_INFLATED: Final = 1 << 30


class DataSetBroken(ValueError):
    """Not a data set in its transfer syntax, or one that was cut off; the text says where."""


class _Element(NamedTuple):
    tag: int
    vr: bytes
    begin: int
    length: int


def fields(data: bytes, transfer_syntax: str) -> dict[int, bytes]:
    """Raw values of the elements that we index, of a data set that is whole to its last byte.

    DataSetBroken says why it is not. Numbers of 2 bytes come as little-endian.
    """
    if transfer_syntax == DEFLATED:
        data = _inflated(data)
    walker = _Walker(data, transfer_syntax)
    end = walker.data_set(0, len(data), 0)
    if end != len(data):
        raise DataSetBroken(f"{len(data) - end} bytes after the data set's end")
    if not walker.found:
        raise DataSetBroken("the data set has none of the elements of an image")
    return walker.found


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(data, _MAX_INFLATED)
    except zlib.error as error:
        raise DataSetBroken("the deflated data set is damaged") from error
    if not unpacker.eof:
        raise DataSetBroken("the deflated data set was cut off, or inflates without end")
    return plain


class _Walker:
    def __init__(self, data: bytes, transfer_syntax: str) -> None:
        self._data = data
        self._explicit = transfer_syntax != IMPLICIT
        order = ">" if transfer_syntax == BIG_ENDIAN else "<"
        self._tag, self._long = struct.Struct(f"{order}HH"), struct.Struct(f"{order}L")
        self._short = struct.Struct(f"{order}H")
        self._swap = order == ">"
        self.found: dict[int, bytes] = {}

    def data_set(self, at: int, end: int, depth: int, *, item: bool = False) -> int:
        """Step over elements up to ``end``, or within an ``item`` to its delimiter."""
        while at < end:
            element = self._element(at, end)
            if item and element.tag == _ITEM_END:
                return element.begin
            if element.tag >> 16 == 0xFFFE:
                raise DataSetBroken(f"a delimiter out of place at byte {at}")
            at = self._skip(element, end, depth)
            if depth == 0 and element.tag in _WANTED and element.length <= _MAX_VALUE:
                self.found[element.tag] = self._value(element)
        if item:
            raise DataSetBroken("an item without its end: the data set was cut off")
        return at

    def _value(self, element: _Element) -> bytes:
        value = self._data[element.begin : element.begin + element.length]
        return value[::-1] if self._swap and element.tag in (ROWS, COLUMNS) else value

    def _element(self, at: int, end: int) -> _Element:
        try:
            group, number = self._tag.unpack_from(self._data, at)
            tag = group << 16 | number
            if not self._explicit or group == 0xFFFE:
                return _Element(tag, b"", at + 8, self._long.unpack_from(self._data, at + 4)[0])
            vr = self._data[at + 4 : at + 6]
            if not (vr.isalpha() and vr.isupper()):
                raise DataSetBroken(f"no value representation at byte {at + 4}")
            if vr in _LONG:
                return _Element(tag, vr, at + 12, self._long.unpack_from(self._data, at + 8)[0])
            return _Element(tag, vr, at + 8, self._short.unpack_from(self._data, at + 6)[0])
        except struct.error as error:
            raise DataSetBroken(f"the data set was cut off at byte {len(self._data)}") from error

    def _skip(self, element: _Element, end: int, depth: int) -> int:
        if element.length != _UNDEFINED:
            after = element.begin + element.length
            if after > end:
                missing = after - end
                raise DataSetBroken(f"the data set was cut off: {missing} bytes are missing")
            return after
        if depth >= _MAX_DEPTH:
            raise DataSetBroken(f"sequences within sequences, more than {_MAX_DEPTH} deep")
        if element.tag == _PIXELS or element.vr in (b"OB", b"OW"):
            return self._fragments(element.begin, end)
        return self._sequence(element, end, depth)

    def _sequence(self, element: _Element, end: int, depth: int) -> int:
        explicit, at = self._explicit, element.begin
        if element.vr == b"UN":
            self._explicit = False  # PS3.5, 6.2.2: whatever the transfer syntax
        try:
            while True:
                item = self._element(at, end)
                if item.tag == _SEQUENCE_END:
                    return item.begin
                if item.tag != _ITEM:
                    raise DataSetBroken(f"no item at byte {at}")
                if item.length == _UNDEFINED:
                    at = self.data_set(item.begin, end, depth + 1, item=True)
                else:
                    at = self._skip(item, end, depth)
        finally:
            self._explicit = explicit

    def _fragments(self, at: int, end: int) -> int:
        while True:
            item = self._element(at, end)
            if item.tag == _SEQUENCE_END:
                return item.begin
            if item.tag != _ITEM or item.length == _UNDEFINED:
                raise DataSetBroken(f"no fragment at byte {at}")
            at = self._skip(item, end, 0)
