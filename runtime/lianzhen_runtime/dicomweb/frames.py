"""Where the frames of an image lie in its file: natively one behind the other, or in fragments."""

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from lianzhen_protocol.dicomset import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, PIXELS
from lianzhen_protocol.errors import ProtocolError

from .dataset import DataSet, Element

_FLOATS: Final = (0x7FE00008, 0x7FE00009)
_EXTENDED_OFFSETS: Final = 0x7FE00001
_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS, _ALLOCATED = (
    *(0x00280002, 0x00280004, 0x00280008),
    *(0x00280010, 0x00280011, 0x00280100),
)
_MAX_FRAMES: Final = 1 << 17
_ITEM_HEAD: Final = 8

Span = tuple[int, int]
"""Begin and length."""


class NoSuchFrame(ProtocolError):
    """The image has no frame of that number."""

    code = "frame-unknown"
    http_status = 404


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """Frames by where they lie; those that share bytes with others (one bit a pixel) say at which
    bit they begin."""

    begin: int
    """Where the data set begins."""
    header: int
    """Where the pixels' element begins."""
    tag: int
    encapsulated: bool
    frames: list[list[Span]]
    word: int = 1
    """Bytes that are to be turned round."""
    bits: int = 0
    """Of a frame, where it is not whole bytes."""

    def spans(self, number: int) -> Sequence[Span]:
        """The parts of frame ``number``, from 1; NoSuchFrame."""
        if not 0 < number <= len(self.frames):
            raise NoSuchFrame(f"the image has {len(self.frames)} frames, from 1 on")
        return self.frames[number - 1]

    def cut(self, number: int, content: bytes) -> bytes:
        """A frame out of the bytes that it lies in."""
        if not self.bits:
            return content
        shift = (number - 1) * self.bits % 8
        value = int.from_bytes(content, "little") >> shift & ((1 << self.bits) - 1)
        return value.to_bytes(-(-self.bits // 8), "little")


def single(layout: Layout, syntax: str, header: bytes, frame: bytes) -> bytes:
    """A Part 10 file of one frame, and of the elements before pixels: ``header`` has those."""
    syntax = EXPLICIT if syntax == DEFLATED else syntax
    name = syntax.encode() + b"\0" * (len(syntax) % 2)
    named = struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", len(name)) + name
    meta = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(named)) + named
    frame += b"\0" * (len(frame) % 2)
    group, number = layout.tag >> 16, layout.tag & 0xFFFF
    if layout.encapsulated:
        head = struct.pack("<HH2sHL", group, number, b"OB", 0, 0xFFFFFFFF)
        head += struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(frame))
        frame += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    elif syntax == IMPLICIT:
        head = struct.pack("<HHL", group, number, len(frame))
    else:
        order = ">" if syntax == BIG_ENDIAN else "<"
        head = struct.pack(f"{order}HH2sHL", group, number, b"OW", 0, len(frame))
    return b"".join((bytes(128), b"DICM", meta, header, head, frame))


def layout(found: DataSet) -> Layout | None:
    """Of a data set's pixels; None if it has none that can be told apart."""
    pixels = next((one for one in found.elements if one.tag in (PIXELS, *_FLOATS)), None)
    if pixels is None:
        return None
    text = found.text(_FRAMES)
    count = int(text) if text.isdigit() and len(text) < 8 else 1
    if not 0 < count <= _MAX_FRAMES:
        return None
    if pixels.fragments is not None:
        frames = _encapsulated(found, pixels, count)
        return None if frames is None else Layout(found.begin, pixels.at, pixels.tag, True, frames)
    return _native(found, pixels, count)


def _native(found: DataSet, pixels: Element, count: int) -> Layout | None:
    allocated = found.number(_ALLOCATED)
    samples: float = found.number(_SAMPLES, 1)
    if found.text(_PHOTOMETRIC) in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        samples = 2
    bits = int(found.number(_ROWS) * found.number(_COLUMNS) * samples * allocated)
    if not 0 < bits * count <= pixels.length * 8:
        return None
    # Words of 16 bits in OW, whatever the pixels' size; none in OB.
    word = max(allocated // 8, 2 if pixels.vr == "OW" else 1)
    word = word if found.transfer_syntax == BIG_ENDIAN else 1
    if bits % 8 == 0:
        size = bits // 8
        frames = [[(pixels.begin + at * size, size)] for at in range(count)]
        return Layout(found.begin, pixels.at, pixels.tag, False, frames, word)
    frames = []
    for at in range(count):
        first, last = at * bits // 8, -(-(at + 1) * bits // 8)
        frames.append([(pixels.begin + first, last - first)])
    return Layout(found.begin, pixels.at, pixels.tag, False, frames, word, bits)


def _encapsulated(found: DataSet, pixels: Element, count: int) -> list[list[Span]] | None:
    table, *fragments = pixels.fragments or [(0, 0)]
    if not fragments:
        return None
    if count == 1:
        return [fragments]
    if len(fragments) == count:
        return [[one] for one in fragments]
    offsets = _offsets(found, table)
    if len(offsets) != count:
        return _by_marker(found.data, fragments, count)
    base = fragments[0][0] - _ITEM_HEAD
    begins = {begin - base - _ITEM_HEAD: at for at, (begin, _) in enumerate(fragments)}
    places = [begins.get(offset, -1) for offset in offsets]
    if places[0] != 0 or any(a >= b for a, b in pairwise(places)):
        return None
    return [fragments[first:last] for first, last in zip(places, [*places[1:], None], strict=True)]


def _offsets(found: DataSet, table: Span) -> list[int]:
    """Out of the extended table if there is one, else the basic one (PS3.5, A.4)."""
    extended = found.value(_EXTENDED_OFFSETS)
    raw, size = (extended, 8) if extended else (found.data[table[0] : sum(table)], 4)
    return [int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size)]


def _by_marker(data: bytes, fragments: list[Span], count: int) -> list[list[Span]] | None:
    """Without a table: a JPEG of any kind ends with its own marker, padded."""
    frames: list[list[Span]] = [[]]
    for begin, length in fragments:
        frames[-1].append((begin, length))
        if b"\xff\xd9" in data[max(begin, begin + length - 4) : begin + length]:
            frames.append([])
    frames.pop()
    return frames if len(frames) == count else None
