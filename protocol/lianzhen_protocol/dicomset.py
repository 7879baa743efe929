"""How a DICOM data set is encoded and asked for, as far as every reader of one agrees (PS3.5, 6, 7
and A; PS3.4, C.2.2.2): for the receiving process, which may hold no library, and for all others.
"""

import zlib
from typing import Final

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

PIXELS: Final = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED: Final = 0xFFFFFFFF
"""A length that a delimiter ends."""

LONG: Final = frozenset(
    {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT", "SV", "UV"}
)
"""Kinds of which the length has 4 bytes (PS3.5, 7.1.2)."""

RANGES: Final = frozenset({"DA", "TM", "DT"})
"""Kinds that are asked for from and to (PS3.4, C.2.2.2.5)."""
WILD: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
"""Kinds that are asked for with ``*`` and ``?`` (PS3.4, C.2.2.2.4)."""


class DeflatedBroken(ValueError):
    """A deflated data set that is damaged, or has no end; the text says which."""


def inflated(data: bytes, most: int) -> bytes:
    """A deflated data set in plain (PS3.5, A.5), of ``most`` bytes; DeflatedBroken."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(data, most)
    except zlib.error as error:
        raise DeflatedBroken("the deflated data set is damaged") from error
    if not unpacker.eof:
        raise DeflatedBroken("the deflated data set was cut off, or inflates without end")
    return plain


def like(pattern: str, text: str) -> bool:
    """``*`` stands for any characters, ``?`` for one. Greedy, in at most len x len steps."""
    at = spot = 0
    star, mark = -1, 0
    while at < len(text):
        if spot < len(pattern) and pattern[spot] == "*":
            star, mark = spot, at
            spot += 1
        elif spot < len(pattern) and pattern[spot] in ("?", text[at]):
            at, spot = at + 1, spot + 1
        elif star >= 0:
            mark += 1
            at, spot = mark, star + 1
        else:
            return False
    return pattern[spot:].strip("*") == ""
