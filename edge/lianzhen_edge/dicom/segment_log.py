"""The writer's end of the segment log (``segments``): records that grow where they are sealed.

A body comes piece by piece into the page that goes to the disk, and is sealed there. What outgrows
the page gets a segment of its own, which appears when it is whole: so an image costs one page of
memory, however large it is.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lianzhen_protocol.sealing import NONCE_BYTES, Sealer
from lianzhen_runtime.files import private_folder, sync_folder
from lianzhen_runtime.keys import KeyProvider, new_data_key

from .segments import (
    BLOCK,
    HEAD_BYTES,
    OWNER,
    SEAL_BYTES,
    SEGMENT_BYTES,
    LogFailed,
    LogFull,
    Place,
    place_of,
    record_head,
    segment_head,
    segment_path,
    segments,
    up,
)
from .spares import Spares, open_direct

PAGE_BYTES: Final = 4 << 20
"""Of a body that is kept in memory until it is whole; a CT slice has 0.5 MB, a DX image 15 MB."""
MAX_BODY_BYTES: Final = 1 << 30
MAX_META_BYTES: Final = 96 << 10
_BODY_AT: Final = HEAD_BYTES + 1 + NONCE_BYTES
_MOST_SYNCS: Final = 4
"""At once on a segment, so that who has just missed one need not wait for it. One, where the page
cache is written from: there a failure is told to a single sync, and may be another record's.
"""
_KEPT_PAGES: Final = 1 << 20
"""Of a page's memory that stays when a larger record is done."""


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

    def fsync(self, descriptor: int) -> None:
        """The same, and its size with them."""
        os.fsync(descriptor)


class Segment:
    """A file that is written to, of ``size`` bytes that are there, or 0: it grows. Its lock says
    so to the core.
    """

    def __init__(self, path: Path, size: int, keys: KeyProvider, disk: Disk) -> None:
        self.path, self.number, self.size, self.end, self.users = path, 0, size, BLOCK, 0
        self.nonce = secrets.token_bytes(16)
        self.key, wrapped = new_data_key(keys, OWNER, self.nonce)
        self.written = self.begun = self.synced = self.syncs = 0
        """Records: written, those that the last sync to begin is for, synced; and syncs now."""
        self.error: OSError | None = None
        flags = os.O_RDWR | os.O_CREAT
        self.descriptor = open_direct(path, flags) if size else os.open(path, flags, 0o600)
        direct = fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & os.O_DIRECT
        self.most_syncs = _MOST_SYNCS if direct else 1
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_SH)
            block = memoryview(mmap.mmap(-1, BLOCK))
            head = segment_head(self.nonce, wrapped)
            block[: len(head)] = head
            disk.pwrite(self.descriptor, block, 0)
        except BaseException:
            self.discard()
            raise

    def appear(self, number: int) -> None:
        """Be there for readers; what was written is synced."""
        path = segment_path(self.path.parent, number)
        self.path.rename(path)
        self.path, self.number = path, number
        sync_folder(path.parent)

    def discard(self) -> None:
        """It was not to be."""
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Write no more to it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def sealer(self, offset: int, part: str) -> Sealer:
        """For a part of the record at ``offset``."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return self.key.sealer(nonce, place_of(self.nonce, offset, part))

    def sealed_meta(self, offset: int, meta: bytes) -> bytes:
        """The meta of the record at ``offset``."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return self.key.seal(nonce, meta, place_of(self.nonce, offset, "meta"))


class SegmentLog:
    """Any thread may append.

    ``room``: of a folder on a disk with so many free bytes, those that the log may still take.
    ``spares``: so many segments are made ahead while nothing comes.
    """

    def __init__(
        self,
        folder: Path,
        keys: KeyProvider,
        *,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        room: Callable[[Path, int], int] = lambda _folder, free: free,
        spares: int = 0,
    ) -> None:
        self._folder = private_folder(folder)
        self._keys, self.disk = keys, disk or Disk()
        self._segment_bytes, self._bytes_left = segment_bytes, room
        self._next = max(segments(folder), default=0) + 1
        for left in folder.glob(".*.new"):
            left.unlink()
        self._lock = threading.Condition()
        self._spares = Spares(folder, segment_bytes, spares, self.disk.pwrite, self._left)
        self._current: Segment | None = None
        self._written = 0

    def append(self, meta: bytes, body: bytes, *, held: bool = False) -> Place:
        """Keep a record that is whole; it is durable when this returns.

        LogFull or LogFailed: it is not, and may be appended again.
        """
        with contextlib.closing(Draft(self)) as draft:
            draft.begin()
            at = 0
            while at < len(body):
                room = draft.room()
                piece = body[at : at + len(room)]
                room[: len(piece)] = piece
                draft.took(len(piece))
                at += len(piece)
            return draft.commit(meta, held=held)

    def close(self) -> None:
        """Let go of the file. What was appended stays."""
        self._spares.close()
        with self._lock:
            if self._current is not None:
                self._leave(self._current)

    # -- for drafts

    def write(self, page: memoryview, meta: bytes, body: int, *, held: bool) -> Place:
        """Seal a body of so many bytes in a page, and make it durable there."""
        size = up(_BODY_AT + body + SEAL_BYTES + len(meta) + SEAL_BYTES)
        with self._lock:
            segment = self._room(size)
            offset = segment.end
            segment.end += size
            segment.users += 1
        try:
            seal_page(segment, offset, page[:size], meta, body, held=held)
            self.disk.pwrite(segment.descriptor, page[:size], offset)
            self._commit(segment)
        except OSError as error:
            with self._lock:
                self._leave(segment)
            raise failed(error) from error
        finally:
            with self._lock:
                segment.users -= 1
                self._let_go(segment)
        return Place(segment.number, offset)

    def begin_own(self) -> Segment:
        """A segment for one large record; nobody sees it before `publish`."""
        self.need(PAGE_BYTES)
        path = self._folder / f".{secrets.token_hex(4)}.new"
        try:
            return Segment(path, 0, self._keys, self.disk)
        except OSError as error:
            raise failed(error) from error

    def need(self, size: int) -> None:
        """LogFull if there is no room for so many bytes more."""
        if self._left() < size:
            raise LogFull("the room for images is full: send it again later")

    def publish(self, own: Segment) -> Place:
        """Let readers see it."""
        self.disk.fsync(own.descriptor)
        with self._lock:
            number = self._next
            self._next += 1
        own.appear(number)
        return Place(number, BLOCK)

    # -- inside

    def _left(self) -> int:
        return self._bytes_left(self._folder, self.disk.free_bytes(self._folder))

    def _leave(self, segment: Segment) -> None:
        """Append no more to it; under the lock."""
        if self._current is segment:
            self._current = None
            self._let_go(segment)

    def _let_go(self, segment: Segment) -> None:
        if segment.users == 0 and segment is not self._current:
            segment.close()

    def _room(self, size: int) -> Segment:
        """The segment with room for ``size`` more bytes, made if need be; under the lock."""
        current = self._current
        if current is not None and current.end + size <= current.size:
            return current
        made = self._make(max(self._segment_bytes, up(size + BLOCK)))
        if current is not None:
            self._leave(current)
        self._current = made
        return made

    def _make(self, size: int) -> Segment:
        path = self._folder / f".{self._next:08d}.new"
        try:
            if size != self._segment_bytes or not self._spares.take(path):
                self.need(size)
                self._spares.make(path, size)
            made = Segment(path, size, self._keys, self.disk)
            try:
                os.fsync(made.descriptor)
                made.appear(self._next)
            except BaseException:
                made.discard()
                raise
        except OSError as error:
            path.unlink(missing_ok=True)
            raise failed(error, "no segment can be made") from error
        self._next += 1
        return made

    def _commit(self, segment: Segment) -> None:
        """Wait for a sync that began after this thread's write ended, or make one."""
        with self._lock:
            self._written += 1
            segment.written += 1
            ticket = segment.written
            while segment.synced < ticket and segment.error is None:
                if segment.begun >= ticket or segment.syncs >= segment.most_syncs:
                    self._lock.wait()
                else:
                    self._sync(segment)
            if segment.error is not None:
                raise segment.error

    def _sync(self, segment: Segment) -> None:
        """Sync all that was written to it; the lock is free meanwhile, and held at the end."""
        target = segment.begun = segment.written
        segment.syncs += 1
        self._lock.release()
        failure: OSError | None = None
        try:
            self.disk.fdatasync(segment.descriptor)
        except OSError as error:
            failure = error
        finally:
            self._lock.acquire()
            segment.syncs -= 1
            self._lock.notify_all()
        if failure is None:
            segment.synced = max(segment.synced, target)
        else:
            segment.error = failure
            self._leave(segment)


class Draft:
    """One record that is being written; its page is used again and again, by one thread."""

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        slack = up(_BODY_AT + 2 * SEAL_BYTES + MAX_META_BYTES)
        self._map = mmap.mmap(-1, PAGE_BYTES + slack)
        self._page = memoryview(self._map)
        self._own: _Own | None = None
        self._fill, self._size = 0, 0

    @property
    def size(self) -> int:
        """Bytes of the body so far."""
        return self._size + self._fill

    def begin(self) -> None:
        """A new record; what was not committed is forgotten."""
        if self._own is not None:
            self._own.discard()
        if self._fill > _KEPT_PAGES or self._own is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
        self._own, self._fill, self._size = None, 0, 0

    def room(self) -> memoryview:
        """Where the body goes on, at least a byte; LogFull or LogFailed if it cannot."""
        if self._fill == PAGE_BYTES:
            self._spill()
        return self._page[_BODY_AT + self._fill : _BODY_AT + PAGE_BYTES]

    def took(self, count: int) -> None:
        """So many bytes were put there."""
        self._fill += count

    def last(self, count: int) -> memoryview:
        """The last bytes that were put there; good until `room` is asked for again."""
        end = _BODY_AT + self._fill
        return self._page[end - count : end]

    def commit(self, meta: bytes, *, held: bool = False) -> Place:
        """Keep it; it is durable when this returns. LogFull or LogFailed: it is not."""
        if len(meta) > MAX_META_BYTES:
            raise LogFull("what is said of the image is too long")
        try:
            if self._own is None:
                return self._log.write(self._page, meta, self._fill, held=held)
            self._spill()
            return self._own.commit(meta, held=held)
        finally:
            self.begin()

    def close(self) -> None:
        """Let go of what was not committed."""
        self.begin()

    def _spill(self) -> None:
        if self.size > MAX_BODY_BYTES:
            raise LogFull(f"an image of more than {MAX_BODY_BYTES} bytes")
        if self._own is None:
            self._own = _Own(self._log)
        self._own.write(self._page[_BODY_AT : _BODY_AT + self._fill])
        self._size += self._fill
        self._fill = 0


class _Own:
    """A record that has a segment of its own."""

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        self._segment: Segment | None = log.begin_own()
        self._sealer = self._segment.sealer(BLOCK, "body")
        self._end = BLOCK + _BODY_AT

    def write(self, piece: memoryview) -> None:
        """The next piece of its body, which is sealed where it lies."""
        self._log.need(len(piece))
        self._sealer.seal(piece)
        try:
            self._log.disk.pwrite(self._open.descriptor, piece, self._end)
        except OSError as error:
            raise failed(error) from error
        self._end += len(piece)

    def commit(self, meta: bytes, *, held: bool) -> Place:
        """Its end, its meta, its head; then it appears."""
        segment, disk = self._open, self._log.disk
        sealed, tag = segment.sealed_meta(BLOCK, meta), self._sealer.end()
        body = self._end + len(tag) - BLOCK - HEAD_BYTES
        head = record_head(segment.nonce, BLOCK, body, len(sealed), held=held)
        try:
            disk.pwrite(segment.descriptor, memoryview(tag + sealed), self._end)
            os.ftruncate(segment.descriptor, up(self._end + len(tag) + len(sealed)))
            disk.pwrite(segment.descriptor, memoryview(head + self._sealer.head), BLOCK)
            place = self._log.publish(segment)
        except OSError as error:
            raise failed(error) from error
        segment.close()
        self._segment = None
        return place

    def discard(self) -> None:
        """Unless it has appeared."""
        if self._segment is not None:
            self._segment.discard()

    @property
    def _open(self) -> Segment:
        if self._segment is None:
            raise ValueError("this record was committed")
        return self._segment


def seal_page(
    segment: Segment, offset: int, page: memoryview, meta: bytes, body: int, *, held: bool
) -> None:
    """Make a page with a body in clear the record that will lie at ``offset``."""
    sealer, end = segment.sealer(offset, "body"), _BODY_AT + body
    sealer.seal(page[_BODY_AT:end])
    tail = sealer.end() + segment.sealed_meta(offset, meta)
    sealed_body = body + SEAL_BYTES
    sealed_meta = len(meta) + SEAL_BYTES
    head = record_head(segment.nonce, offset, sealed_body, sealed_meta, held=held)
    page[:_BODY_AT] = head + sealer.head
    page[end : end + len(tail)] = tail
    page[end + len(tail) :] = bytes(len(page) - end - len(tail))  # no crumbs of another patient


def failed(error: OSError, what: str = "the medium refuses") -> LogFull | LogFailed:
    """What an error of the medium means to a sender."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LogFull("the disk is full: make room, then send it again")
    return LogFailed(f"{what}: {error.strerror or error}")
