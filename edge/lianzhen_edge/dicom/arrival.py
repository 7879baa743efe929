"""What the scp and the core tell each other: by the segment log, a file and two short notices."""

import struct
from pathlib import Path
from typing import Final

import msgspec

from lianzhen_runtime.files import write_durably

FOLDER: Final = "dicom"
"""Below the state folder."""

ADMITTED_FILE: Final = "admitted.json"


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """The meta of a record in the segment log."""

    title: str
    """Calling AE title."""
    address: str
    sop_class: str
    sop_uid: str
    transfer_syntax: str
    sha256: str
    """Of the Part 10 file, hexadecimal."""
    size: int
    fields: dict[int, bytes] = {}
    """Raw values by tag, see ``elements``."""
    status: int = 0
    comment: str = ""
    """Why it is only held, in the words that the sender got."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Notice: a record became durable at this place."""

    segment: int
    offset: int


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """Notice: a modality called, and was let in or not."""

    title: str
    address: str
    admitted: bool


class Caller(msgspec.Struct, frozen=True):
    """Who may associate: this AE title from this address."""

    title: str
    address: str


class Admissions:
    """The list of admitted callers: written by the core, read by the scp at each association."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ADMITTED_FILE

    def write(self, callers: list[Caller]) -> None:
        """Replace the list; it holds from the next association on."""
        write_durably(self._path, msgspec.json.encode(callers))

    def admits(self, title: str, address: str) -> bool:
        """Whether a caller is on the list. A list that is missing or damaged admits nobody."""
        try:
            callers = msgspec.json.decode(self._path.read_bytes(), type=list[Caller])
        except (FileNotFoundError, msgspec.DecodeError):
            return False
        return Caller(title, address) in callers


# -- the Part 10 file

IMPLEMENTATION: Final = "2.25.234713580287116437128546291708455132907"
_LONG = struct.Struct("<HH2sHL")
_SHORT = struct.Struct("<HH2sH")


def part10_head(sop_class: str, sop_uid: str, transfer_syntax: str) -> bytes:
    """What a DICOM file (PS3.10, 7.1) has before its data set. It depends on nothing else, so the
    same image twice is the same file.
    """
    elements = _LONG.pack(2, 1, b"OB", 0, 2) + b"\0\1"
    for number, uid in (
        (0x02, sop_class),
        (0x03, sop_uid),
        (0x10, transfer_syntax),
        (0x12, IMPLEMENTATION),
    ):
        value = uid.encode("ascii")
        value += b"\0" * (len(value) % 2)
        elements += _SHORT.pack(2, number, b"UI", len(value)) + value
    length = _SHORT.pack(2, 0, b"UL", 4) + struct.pack("<L", len(elements))
    return b"".join((bytes(128), b"DICM", length, elements))


def printable(text: str) -> str:
    """An AE title as it may be shown: at most 16 printable ASCII characters."""
    return "".join(c for c in text if " " < c < "\x7f" or c == " ").strip()[:16]
