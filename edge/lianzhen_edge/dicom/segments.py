"""The segment log: where an image is durable before its sender is told Success.

::

    state/dicom/00000007.seg      pre-written, then overwritten in place; never appended to
      block 0                     magic, nonce, wrapped data key, crc
      block n ...                 header | sealed body | sealed meta, zero-padded to the grid
      ...                         after a crash with gaps, and a torn record, in between

1. A record counts if the crc of its header, the segment's nonce and its own offset fit, and both
   sealed parts open. A reader believes nothing else, so what a crash tore is as if never written.
2. ``append`` returns when the record was written and a *later* fdatasync of its segment returned
   without error. Whoever finds none under way that is for him too makes one, a few at once.
3. After a failed sync the segment is left as it is: the kernel may have dropped what it could not
   write. After a restart too, appending goes on in a new one, never behind a possibly torn tail.
4. Overwriting blocks that were really written changes no metadata: a sync is the data and one
   flush, and a full disk is met when a segment is made, not within an image.

The scp is the only writer (``segment_log``); it holds a lock on each file that it may still write
to. The core reads, and removes a segment once the hub has all of it. In records of earlier releases
the meta lies before the body.
"""

import contextlib
import fcntl
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.sealing import NONCE_BYTES, TAG_BYTES, SealingKey
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.files import sync_folder
from lianzhen_runtime.keys import KeyProvider, WrappedKey, unwrap

BLOCK: Final = 4096
SEGMENT_BYTES: Final = 32 << 20
OWNER: Final = "dicom"
SEAL_BYTES: Final = 1 + NONCE_BYTES + TAG_BYTES
_SEGMENT = struct.Struct("<8s16sIH")
_RECORD = struct.Struct("<8s16sQHIQ")
_CRC = struct.Struct("<I")
_SEGMENT_MAGIC, _RECORD_MAGIC = b"LZSEGMT1", b"LZSEGRC1"
HEAD_BYTES: Final = _RECORD.size + _CRC.size
_HELD, _META_BEHIND = 1, 2


class LogFull(LianzhenError):
    """There is no room for another segment; it works again when there is."""

    code = "images-full"
    http_status = 507


class LogFailed(LianzhenError):
    """The medium did not take it: the sender keeps the image and may send it again."""

    code = "images-failed"
    http_status = 503


class Place(NamedTuple):
    """Where a record begins."""

    segment: int
    offset: int


class Found(NamedTuple):
    """A record whose header is sound and whose meta opened; the body is not looked at."""

    place: Place
    held: bool
    """Kept for a person to look at; its sender was refused."""
    meta: bytes
    body_bytes: int


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}.seg"


def segments(folder: Path) -> list[int]:
    """Numbers of the segments that are there, oldest first."""
    return sorted(int(path.stem) for path in folder.glob("*.seg") if path.stem.isdigit())


def up(size: int) -> int:
    """So many bytes on the grid."""
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _crc(content: bytes) -> bytes:
    return _CRC.pack(zlib.crc32(content))


def place_of(nonce: bytes, offset: int, part: str) -> bytes:
    """Additional data of a record's "meta" or "body" at an offset in the segment of ``nonce``."""
    return b"lz/1 segment\0" + nonce + f"{offset}|{part}".encode()


def segment_head(nonce: bytes, wrapped: WrappedKey) -> bytes:
    """What a segment begins with."""
    head = _SEGMENT.pack(_SEGMENT_MAGIC, nonce, wrapped.version, len(wrapped.sealed))
    head += wrapped.sealed
    return head + _crc(head)


def record_head(nonce: bytes, offset: int, body: int, meta: int, *, held: bool) -> bytes:
    """The header of a record at ``offset``; ``body`` and ``meta``: sealed bytes that follow."""
    flags = _META_BEHIND | (_HELD if held else 0)
    head = _RECORD.pack(_RECORD_MAGIC, nonce, offset, flags, meta, body)
    return head + _crc(head)


class SegmentReader:
    """The reader's end. Any thread; it keeps no file open."""

    def __init__(self, folder: Path, keys: KeyProvider) -> None:
        self._folder, self._keys = folder, keys

    def segments(self) -> list[int]:
        """Numbers of the segments that are there, oldest first."""
        return segments(self._folder)

    def scan(self, number: int) -> Iterator[Found]:
        """Every record of a segment whose header and meta are sound, in order of place.

        Bodies are not opened. Nothing comes of a segment that is gone or was never begun.
        """
        try:
            with self._open(number) as (view, nonce, key):
                yield from _scan(view, number, nonce, key)
        except (FileNotFoundError, SealBroken):
            return

    def opens(self, number: int) -> bool:
        """Whether a segment's first block is sound: else nobody can say what it holds."""
        try:
            with self._open(number):
                return True
        except (FileNotFoundError, SealBroken):
            return False

    def meta(self, place: Place) -> Found:
        """The record at a place; SealBroken if there is none."""
        with self._open(place.segment) as (view, nonce, key):
            found = _record(view, place, nonce, key)
            if found is None:
                raise SealBroken("no record begins there")
            return found[0]

    def body(self, place: Place) -> bytes:
        """What was appended there; SealBroken if it is not whole, FileNotFoundError if it went."""
        with self._open(place.segment) as (view, nonce, key):
            head = _head(view, place.offset, nonce)
            if head is None:
                raise SealBroken("no record begins there")
            return key.open(view[head.body], place_of(nonce, place.offset, "body"))

    def in_use(self, number: int) -> bool:
        """Whether the scp may still write to a segment: what it will hold is not there yet."""
        try:
            with segment_path(self._folder, number).open("rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def remove(self, number: int) -> None:
        """Forget a segment for good."""
        segment_path(self._folder, number).unlink(missing_ok=True)
        sync_folder(self._folder)

    @contextlib.contextmanager
    def _open(self, number: int) -> Iterator[tuple[mmap.mmap, bytes, SealingKey]]:
        with (
            segment_path(self._folder, number).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        ):
            magic, nonce, version, length = _SEGMENT.unpack_from(view)
            end = _SEGMENT.size + length
            if magic != _SEGMENT_MAGIC or view[end : end + _CRC.size] != _crc(view[:end]):
                raise SealBroken("the segment's first block is damaged")
            sealed = WrappedKey(version, view[_SEGMENT.size : end])
            yield view, nonce, unwrap(self._keys, OWNER, nonce, sealed)


class _Head(NamedTuple):
    held: bool
    meta: slice
    body: slice
    end: int


def _head(view: mmap.mmap, offset: int, nonce: bytes) -> _Head | None:
    """The sound header at ``offset``."""
    stop = offset + _RECORD.size
    if offset % BLOCK or stop + _CRC.size > len(view):
        return None
    magic, own, at, flags, meta, body = _RECORD.unpack_from(view, offset)
    fits = (magic, own, at) == (_RECORD_MAGIC, nonce, offset)
    if not fits or view[stop : stop + _CRC.size] != _crc(view[offset:stop]):
        return None
    begin = stop + _CRC.size
    end = begin + meta + body
    if end > len(view):
        return None
    held = bool(flags & _HELD)
    if flags & _META_BEHIND:
        return _Head(held, slice(begin + body, end), slice(begin, begin + body), end)
    return _Head(held, slice(begin, begin + meta), slice(begin + meta, end), end)


def _record(
    view: mmap.mmap, place: Place, nonce: bytes, key: SealingKey
) -> tuple[Found, int] | None:
    """The record at a place, and where the next one may begin."""
    head = _head(view, place.offset, nonce)
    if head is None:
        return None
    try:
        plain = key.open(view[head.meta], place_of(nonce, place.offset, "meta"))
    except SealBroken:
        return None
    size = head.body.stop - head.body.start - SEAL_BYTES
    return Found(place, head.held, plain, size), up(head.end)


def _scan(view: mmap.mmap, number: int, nonce: bytes, key: SealingKey) -> Iterator[Found]:
    offset = BLOCK
    while offset + BLOCK <= len(view):
        found = _record(view, Place(number, offset), nonce, key)
        if found is None:
            offset += BLOCK  # a gap, or a torn record, is walked block by block
            continue
        yield found[0]
        offset = found[1]
