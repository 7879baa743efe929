"""The segment log: where an image is durable before its sender is told Success.

::

    state/dicom/00000007.seg      pre-written, then overwritten in place; never appended to
      block 0                     magic, nonce, wrapped data key, crc
      block n ...                 header | sealed meta | sealed body, zero-padded to the grid
      ...                         after a crash with gaps, and a torn record, in between

1. A record counts if the crc of its header, the segment's nonce and its own offset fit, and both
   sealed parts open. A reader believes nothing else, so what a crash tore is as if never written.
2. ``append`` returns when the record was written and a *later* fdatasync of its segment returned
   without error. Whoever finds no sync under way leads one for all that are written by then.
3. After a failed sync the segment is left as it is: the kernel may have dropped what it could not
   write. After a restart too, appending goes on in a new one, never behind a possibly torn tail.
4. Overwriting blocks that were really written changes no metadata: a sync is the data and one
   flush, and a full disk is met when a segment is made, not within an image.

The scp is the only writer. The core reads, and removes a segment once the hub has all of it.
"""

import contextlib
import errno
import mmap
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.sealing import NONCE_BYTES, SealingKey
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.files import private_folder, sync_folder
from lianzhen_runtime.keys import KeyProvider, WrappedKey, new_data_key, unwrap

BLOCK: Final = 4096
SEGMENT_BYTES: Final = 32 << 20
MAX_BODY_BYTES: Final = 1 << 30
_OWNER: Final = "dicom"
_SEGMENT = struct.Struct("<8s16sIH")
_RECORD = struct.Struct("<8s16sQHIQ")
_CRC = struct.Struct("<I")
_SEGMENT_MAGIC, _RECORD_MAGIC = b"LZSEGMT1", b"LZSEGRC1"
_SEAL_BYTES: Final = 1 + NONCE_BYTES + 16
_ZEROS: Final = bytes(1 << 20)


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


class Disk:
    """The calls that durability hangs on, in one place, so that a test may break them."""

    def pwrite(self, descriptor: int, content: memoryview, offset: int) -> None:
        """All of ``content`` at ``offset``; a short write goes on with the rest."""
        while len(content):
            written = os.pwrite(descriptor, content, offset)
            content, offset = content[written:], offset + written

    def fdatasync(self, descriptor: int) -> None:
        """The data are on the medium when this returns."""
        os.fdatasync(descriptor)

    def free_bytes(self, folder: Path) -> int:
        """What a plain user may still write."""
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}.seg"


def segments(folder: Path) -> list[int]:
    """Numbers of the segments that are there, oldest first."""
    return sorted(int(path.stem) for path in folder.glob("*.seg") if path.stem.isdigit())


def _up(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _crc(content: bytes) -> bytes:
    return _CRC.pack(zlib.crc32(content))


def _aad(nonce: bytes, offset: int, part: str) -> bytes:
    return b"lz/1 segment\0" + nonce + f"{offset}|{part}".encode()


# -- writing


class _Segment:
    """The segment that is written to."""

    def __init__(self, folder: Path, number: int, size: int, keys: KeyProvider, disk: Disk) -> None:
        self.number, self.size, self.end, self.users = number, size, BLOCK, 0
        self.nonce = secrets.token_bytes(16)
        self.key, wrapped = new_data_key(keys, _OWNER, self.nonce)
        head = _SEGMENT.pack(_SEGMENT_MAGIC, self.nonce, wrapped.version, len(wrapped.sealed))
        head += wrapped.sealed
        beside = folder / f".{number:08d}.new"
        self.descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(self.descriptor, 0, size)  # contiguous, and full now or never
            for at in range(0, size, len(_ZEROS)):
                zeros = memoryview(_ZEROS)[: min(len(_ZEROS), size - at)]
                disk.pwrite(self.descriptor, zeros, at)
            disk.pwrite(self.descriptor, memoryview(head + _crc(head)), 0)
            os.fsync(self.descriptor)
            beside.rename(segment_path(folder, number))
            sync_folder(folder)
        except BaseException:
            os.close(self.descriptor)
            with contextlib.suppress(OSError):
                beside.unlink()
            raise

    def record(self, offset: int, held: bool, meta: bytes, body: bytes) -> bytes:
        """The bytes of a record that will lie at ``offset``."""
        sealed = [
            self.key.seal(secrets.token_bytes(NONCE_BYTES), part, _aad(self.nonce, offset, name))
            for name, part in (("meta", meta), ("body", body))
        ]
        head = _RECORD.pack(_RECORD_MAGIC, self.nonce, offset, held, len(sealed[0]), len(sealed[1]))
        return b"".join((head, _crc(head), *sealed))


class SegmentLog:
    """The writer's end; any thread may append.

    ``room``: of a folder on a disk with so many free bytes, those that the log may still take.
    """

    def __init__(
        self,
        folder: Path,
        keys: KeyProvider,
        *,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        room: Callable[[Path, int], int] = lambda _folder, free: free,
    ) -> None:
        self._folder = private_folder(folder)
        self._keys, self._disk = keys, disk or Disk()
        self._segment_bytes, self._bytes_left = segment_bytes, room
        self._next = max(segments(folder), default=0) + 1
        for left in folder.glob(".*.new"):
            left.unlink()
        self._lock = threading.Condition()
        self._current: _Segment | None = None
        self._dirty: set[_Segment] = set()
        self._written = self._synced = 0
        self._syncing = False
        self._failed: dict[int, OSError] = {}

    def append(self, meta: bytes, body: bytes, *, held: bool = False) -> Place:
        """Keep a record; it is durable when this returns.

        LogFull or LogFailed: it is not, and may be appended again.
        """
        if len(body) > MAX_BODY_BYTES:
            raise LogFull(f"an image of {len(body)} bytes; {MAX_BODY_BYTES} at most")
        size = _up(_RECORD.size + _CRC.size + len(meta) + len(body) + 2 * _SEAL_BYTES)
        with self._lock:
            segment = self._room(size)
            offset = segment.end
            segment.end += size
            segment.users += 1
        try:
            content = segment.record(offset, held, meta, body)
            self._disk.pwrite(segment.descriptor, memoryview(content), offset)
            self._commit(segment)
        except OSError as error:
            with self._lock:
                self._leave(segment)
            raise LogFailed(f"the medium refuses: {error.strerror or error}") from error
        finally:
            with self._lock:
                segment.users -= 1
                self._let_go(segment)
        return Place(segment.number, offset)

    def close(self) -> None:
        """Let go of the file. What was appended stays."""
        with self._lock:
            if self._current is not None:
                self._leave(self._current)

    def _leave(self, segment: _Segment) -> None:
        """Append no more to it; under the lock."""
        if self._current is segment:
            self._current = None
            self._let_go(segment)

    def _let_go(self, segment: _Segment) -> None:
        if segment.users == 0 and segment is not self._current and segment.descriptor >= 0:
            os.close(segment.descriptor)
            segment.descriptor = -1

    def _room(self, size: int) -> _Segment:
        """The segment with room for ``size`` more bytes, made if need be; under the lock."""
        current = self._current
        if current is not None and current.end + size <= current.size:
            return current
        wanted = max(self._segment_bytes, _up(size + BLOCK))
        if self._bytes_left(self._folder, self._disk.free_bytes(self._folder)) < wanted:
            raise LogFull("the room for images is full: send it again later")
        try:
            made = _Segment(self._folder, self._next, wanted, self._keys, self._disk)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise LogFull("the disk is full: make room, then send it again") from error
            raise LogFailed(f"no segment can be made: {error.strerror or error}") from error
        self._next += 1
        if current is not None:
            self._leave(current)
        self._current = made
        return made

    def _commit(self, segment: _Segment) -> None:
        """Wait for a sync that began after this thread's write ended, or lead one."""
        with self._lock:
            self._written += 1
            ticket = self._written
            self._dirty.add(segment)
            while self._synced < ticket:
                if self._syncing:
                    self._lock.wait()
                else:
                    self._lead()
            if (error := self._failed.get(segment.number)) is not None:
                raise error

    def _lead(self) -> None:
        """Sync all that was written to; the lock is free meanwhile, and held again at the end."""
        self._syncing, target = True, self._written
        dirty, self._dirty = self._dirty, set()
        self._lock.release()
        errors: dict[_Segment, OSError] = {}
        try:
            for segment in dirty:
                try:
                    self._disk.fdatasync(segment.descriptor)
                except OSError as error:
                    errors[segment] = error
        finally:
            self._lock.acquire()
        for segment, failure in errors.items():
            self._failed[segment.number] = failure
            self._leave(segment)
        self._syncing, self._synced = False, target
        self._lock.notify_all()


# -- reading


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
            return found

    def body(self, place: Place) -> bytes:
        """What was appended there; SealBroken if it is not whole, FileNotFoundError if it went."""
        with self._open(place.segment) as (view, nonce, key):
            head = _head(view, place.offset, nonce)
            if head is None:
                raise SealBroken("no record begins there")
            begin = place.offset + _RECORD.size + _CRC.size + head[1]
            sealed = view[begin : begin + head[2]]
            return key.open(sealed, _aad(nonce, place.offset, "body"))

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
            yield view, nonce, unwrap(self._keys, _OWNER, nonce, sealed)


def _head(view: mmap.mmap, offset: int, nonce: bytes) -> tuple[bool, int, int] | None:
    """(held, bytes of meta, bytes of body) of a sound header at ``offset``."""
    stop = offset + _RECORD.size
    if offset % BLOCK or stop + _CRC.size > len(view):
        return None
    magic, own, at, held, meta, body = _RECORD.unpack_from(view, offset)
    fits = (magic, own, at) == (_RECORD_MAGIC, nonce, offset)
    if not fits or view[stop : stop + _CRC.size] != _crc(view[offset:stop]):
        return None
    if stop + _CRC.size + meta + body > len(view):
        return None
    return bool(held), meta, body


def _record(view: mmap.mmap, place: Place, nonce: bytes, key: SealingKey) -> Found | None:
    head = _head(view, place.offset, nonce)
    if head is None:
        return None
    held, meta, body = head
    begin = place.offset + _RECORD.size + _CRC.size
    try:
        plain = key.open(view[begin : begin + meta], _aad(nonce, place.offset, "meta"))
    except SealBroken:
        return None
    return Found(place, held, plain, body - _SEAL_BYTES)


def _scan(view: mmap.mmap, number: int, nonce: bytes, key: SealingKey) -> Iterator[Found]:
    offset = BLOCK
    while offset + BLOCK <= len(view):
        found = _record(view, Place(number, offset), nonce, key)
        if found is None:
            offset += BLOCK  # a gap, or a torn record, is walked block by block
            continue
        yield found
        size = _RECORD.size + _CRC.size + len(found.meta) + found.body_bytes + 2 * _SEAL_BYTES
        offset += _up(size)
