"""Reading an encoded data set (PS3.5, 7) as far as storing it needs: is it whole, and what is it?

It takes a data set piece by piece. Pixels are stepped over, so this costs microseconds and no
memory, and what was cut off is found out before its sender is told Success. Text is left as bytes:
see ``text``.
"""

import struct
import zlib
from enum import Enum, auto
from typing import Final, NamedTuple

from lianzhen_protocol.dicomset import (
    BIG_ENDIAN,
    DEFLATED,
    IMPLICIT,
    ITEM,
    ITEM_END,
    LONG,
    PIXELS,
    SEQUENCE_END,
    UNDEFINED,
)

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

_LONG: Final = frozenset(kind.encode() for kind in LONG)
_MAX_DEPTH: Final = 32
_MAX_INFLATED: Final = 1 << 30
_INFLATED_PIECE: Final = 1 << 18


class DataSetBroken(ValueError):
    """Not a data set in its transfer syntax, or one that was cut off; the text says where."""


class _Element(NamedTuple):
    tag: int
    vr: bytes
    begin: int
    length: int


class Walk:
    """Steps over a data set that comes piece by piece; DataSetBroken as soon as it is none.

    A piece may be overwritten when `feed` has returned.
    """

    def __init__(self, transfer_syntax: str) -> None:
        self._walker = _Walker(transfer_syntax)
        deflated = transfer_syntax == DEFLATED
        self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if deflated else None
        self._inflated = 0

    def feed(self, piece: bytes | memoryview) -> None:
        """The next bytes."""
        if self._unpacker is None:
            self._walker.feed(piece)
            return
        while len(piece) and not self._unpacker.eof:
            try:
                plain = self._unpacker.decompress(piece, _INFLATED_PIECE)
            except zlib.error as error:
                raise DataSetBroken("the deflated data set is damaged") from error
            self._inflated += len(plain)
            if self._inflated > _MAX_INFLATED:
                raise DataSetBroken("the deflated data set inflates without end")
            self._walker.feed(plain)
            piece = self._unpacker.unconsumed_tail

    def end(self) -> dict[int, bytes]:
        """Raw values of the elements that we index, of a data set that is whole to its last byte.

        Numbers of 2 bytes come as little-endian.
        """
        if self._unpacker is not None and not self._unpacker.eof:
            raise DataSetBroken("the deflated data set was cut off")
        return self._walker.end()


class _Within(Enum):
    """What is being stepped over."""

    DATA_SET = auto()
    ITEM = auto()
    SEQUENCE = auto()
    UNKNOWN = auto()
    """A sequence within UN: implicit, whatever the transfer syntax (PS3.5, 6.2.2)."""
    FRAGMENTS = auto()


class _Walker:
    """A machine with a stack, as nobody knows where the next piece ends."""

    def __init__(self, transfer_syntax: str) -> None:
        self._explicit = transfer_syntax != IMPLICIT
        order = ">" if transfer_syntax == BIG_ENDIAN else "<"
        self._tag, self._long = struct.Struct(f"{order}HH"), struct.Struct(f"{order}L")
        self._short = struct.Struct(f"{order}H")
        self._swap = order == ">"
        self._within = [_Within.DATA_SET]
        self._window: bytes | memoryview = b""
        self._base = self._at = 0
        self.found: dict[int, bytes] = {}

    def feed(self, piece: bytes | memoryview) -> None:
        self._window = b"".join((self._window, piece)) if len(self._window) else piece
        while self._step():
            pass
        end = self._base + len(self._window)
        self._window = bytes(self._window[self._at - self._base :])
        self._base = min(self._at, end)

    def end(self) -> dict[int, bytes]:
        end = self._base + len(self._window)
        if self._at > end:
            raise DataSetBroken(f"the data set was cut off: {self._at - end} bytes are missing")
        if self._within[-1] is not _Within.DATA_SET or self._at < end:
            raise DataSetBroken(f"the data set was cut off at byte {end}")
        if not self.found:
            raise DataSetBroken("the data set has none of the elements of an image")
        return self.found

    def _step(self) -> bool:
        """Over the next element; False if the window ends before."""
        element = self._element(self._at)
        if element is None:
            return False
        match self._within[-1]:
            case _Within.DATA_SET | _Within.ITEM:
                return self._member(element)
            case _:
                self._item(element)
                return True

    def _member(self, element: _Element) -> bool:
        within = self._within[-1]
        if within is _Within.ITEM and element.tag == ITEM_END:
            self._leave(element)
        elif element.tag >> 16 == 0xFFFE:
            raise DataSetBroken(f"a delimiter out of place at byte {self._at}")
        elif element.length == UNDEFINED:
            self._enter(element)
        elif within is _Within.ITEM or element.tag not in _WANTED or self._keep(element):
            self._at = element.begin + element.length
        else:
            return False
        return True

    def _item(self, element: _Element) -> None:
        fragments = self._within[-1] is _Within.FRAGMENTS
        if element.tag == SEQUENCE_END:
            self._leave(element)
        elif element.tag != ITEM or (fragments and element.length == UNDEFINED):
            name = "fragment" if fragments else "item"
            raise DataSetBroken(f"no {name} at byte {self._at}")
        elif element.length == UNDEFINED:
            self._within.append(_Within.ITEM)
            self._at = element.begin
        else:
            self._at = element.begin + element.length

    def _enter(self, element: _Element) -> None:
        if len(self._within) > 2 * _MAX_DEPTH:
            raise DataSetBroken(f"sequences within sequences, more than {_MAX_DEPTH} deep")
        if element.tag == PIXELS or element.vr in (b"OB", b"OW"):
            self._within.append(_Within.FRAGMENTS)
        elif element.vr == b"UN" and self._explicit:
            self._within.append(_Within.UNKNOWN)
            self._explicit = False
        else:
            self._within.append(_Within.SEQUENCE)
        self._at = element.begin

    def _leave(self, element: _Element) -> None:
        if self._within.pop() is _Within.UNKNOWN:
            self._explicit = True
        self._at = element.begin

    def _keep(self, element: _Element) -> bool:
        """Keep a value; False if the window ends within it."""
        begin = element.begin - self._base
        if element.length > _MAX_VALUE:
            return True
        if begin + element.length > len(self._window):
            return False
        value = bytes(self._window[begin : begin + element.length])
        swapped = self._swap and element.tag in (ROWS, COLUMNS)
        self.found[element.tag] = value[::-1] if swapped else value
        return True

    def _element(self, at: int) -> _Element | None:
        """The element that begins ``at``; None if the window ends within its head."""
        window, here = self._window, at - self._base
        left = len(window) - here
        if left < 8:
            return None
        group, number = self._tag.unpack_from(window, here)
        tag = group << 16 | number
        if not self._explicit or group == 0xFFFE:
            return _Element(tag, b"", at + 8, self._long.unpack_from(window, here + 4)[0])
        vr = bytes(window[here + 4 : here + 6])
        if not (vr.isalpha() and vr.isupper()):
            raise DataSetBroken(f"no value representation at byte {at + 4}")
        if vr not in _LONG:
            return _Element(tag, vr, at + 8, self._short.unpack_from(window, here + 6)[0])
        if left < 12:
            return None
        return _Element(tag, vr, at + 12, self._long.unpack_from(window, here + 8)[0])
