"""A file that is sealed chunk by chunk as it arrives, and goes on where a crash left it.

::

    head      magic | file nonce (16) | kek version | length | wrapped data key | crc32
    chunk     length of sealed | sealed            ... as many as it takes

Each file has a data key of its own, wrapped for its owner. A chunk opens only at its place in its
own file, so none can be swapped, repeated or taken out; one that a crash tore is cut off when the
file is opened again. What a chunk ends with is durable when ``append`` returns.
"""

import contextlib
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.sealing import ADDED_BYTES, NONCE_BYTES, SealingKey

from .files import PRIVATE, sync_folder
from .keys import KeyProvider, WrappedKey, new_data_key, unwrap

MAX_CHUNK_BYTES: Final = 8 << 20
_MAGIC = b"LZSFILE1"
_HEAD = struct.Struct("<8s16sIH")
_LENGTH = struct.Struct("<I")


class _Opened(NamedTuple):
    key: SealingKey
    nonce: bytes


def _place(nonce: bytes, offset: int) -> bytes:
    return b"lz/1 file\0" + nonce + str(offset).encode()


def _new_head(keys: KeyProvider, owner: str) -> tuple[bytes, _Opened]:
    nonce = secrets.token_bytes(16)
    key, wrapped = new_data_key(keys, owner, nonce)
    head = _HEAD.pack(_MAGIC, nonce, wrapped.version, len(wrapped.sealed)) + wrapped.sealed
    return head + _LENGTH.pack(zlib.crc32(head)), _Opened(key, nonce)


def _read_head(file: BinaryIO, keys: KeyProvider, owner: str) -> _Opened:
    fixed = file.read(_HEAD.size)
    if len(fixed) < _HEAD.size:
        raise SealBroken("a sealed file without its head")
    magic, nonce, version, length = _HEAD.unpack(fixed)
    wrapped, crc = file.read(length), file.read(_LENGTH.size)
    if magic != _MAGIC or crc != _LENGTH.pack(zlib.crc32(fixed + wrapped)):
        raise SealBroken("a sealed file whose head is damaged")
    return _Opened(unwrap(keys, owner, nonce, WrappedKey(version, wrapped)), nonce)


def _chunks(file: BinaryIO, opened: _Opened) -> Iterator[bytes]:
    """Plain chunks in order; SealBroken at one that is not whole or not of this place."""
    offset = 0
    while head := file.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head) if len(head) == _LENGTH.size else (0,)
        if not 0 < length <= MAX_CHUNK_BYTES + 64:
            raise SealBroken("a chunk that was cut off")
        sealed = file.read(length)
        if len(sealed) < length:  # also where a changed length reaches beyond the file's end
            raise SealBroken("a chunk that was cut off")
        plain = opened.key.open(sealed, _place(opened.nonce, offset))
        offset += len(plain)
        yield plain


def read_sealed(path: Path, keys: KeyProvider, owner: str) -> Iterator[bytes]:
    """The plain chunks of a finished file. FileNotFoundError, or SealBroken if it was changed."""
    with path.open("rb") as file:
        yield from open_sealed(file, keys, owner)


def open_sealed(file: BinaryIO, keys: KeyProvider, owner: str) -> Iterator[bytes]:
    """The same of a file that is open, wherever it lies."""
    return _chunks(file, _read_head(file, keys, owner))


def read_part(file: BinaryIO, keys: KeyProvider, owner: str, begin: int, end: int) -> bytes:
    """Plain bytes from ``begin`` to before ``end``; what is before them is stepped over.

    A chunk opens at its own place only, so lengths that were changed are found out. SealBroken.
    """
    opened, offset, found = _read_head(file, keys, owner), 0, bytearray()
    while offset < end and (head := file.read(_LENGTH.size)):
        (length,) = _LENGTH.unpack(head) if len(head) == _LENGTH.size else (0,)
        plain = length - ADDED_BYTES
        if not 0 < plain <= MAX_CHUNK_BYTES:
            raise SealBroken("a chunk that was cut off")
        if offset + plain <= begin:
            file.seek(length, os.SEEK_CUR)
        else:
            content = opened.key.open(file.read(length), _place(opened.nonce, offset))
            found += content[max(0, begin - offset) : end - offset]
        offset += plain
    return bytes(found)


def write_sealed(path: Path, keys: KeyProvider, owner: str, content: bytes) -> None:
    """Make ``path`` a sealed file of ``content``, durably; it is whole or absent."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with SealedWriter(beside, keys, owner) as writer:
        for at in range(0, len(content), MAX_CHUNK_BYTES):
            writer.append(content[at : at + MAX_CHUNK_BYTES])
    beside.rename(path)
    sync_folder(path.parent)


class Mark(NamedTuple):
    """A place that a writer can go back to."""

    size: int
    end: int


class SealedWriter:
    """Appends to a file that is begun or taken up again. One user at a time.

    ``taken`` is given the plain chunks that are there already, so that a running hash can follow.
    """

    def __init__(
        self,
        path: Path,
        keys: KeyProvider,
        owner: str,
        taken: Callable[[bytes], object] = lambda chunk: None,
    ) -> None:
        self.path = path
        self.size = 0
        """Plain bytes that are durable."""
        self._taken = taken
        try:
            self._file = path.open("r+b")
            opened = self._take_up(keys, owner)
        except (FileNotFoundError, SealBroken):
            opened = self._begin(keys, owner)
        self._opened = opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def append(self, plain: bytes) -> None:
        """Add a chunk, durable when this returns. After an OSError take the file up anew."""
        if not 0 < len(plain) <= MAX_CHUNK_BYTES:
            raise ValueError(f"a chunk has 1 to {MAX_CHUNK_BYTES} bytes")
        place = _place(self._opened.nonce, self.size)
        sealed = self._opened.key.seal(secrets.token_bytes(NONCE_BYTES), plain, place)
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._sync()
        self.size += len(plain)

    def mark(self) -> Mark:
        """Where it ends now."""
        return Mark(self.size, self._file.tell())

    def back_to(self, mark: Mark) -> None:
        """Drop what was appended since, durably. After an OSError take the file up anew."""
        self._file.seek(mark.end)
        self._file.truncate()
        self._sync()
        self.size = mark.size

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _take_up(self, keys: KeyProvider, owner: str) -> _Opened:
        try:
            opened = _read_head(self._file, keys, owner)
        except BaseException:
            self._file.close()
            raise
        end, chunks = self._file.tell(), _chunks(self._file, opened)
        while True:
            try:
                plain = next(chunks, None)
            except SealBroken:
                break
            if plain is None:
                break
            self._taken(plain)
            self.size += len(plain)
            end = self._file.tell()
        self._file.seek(end)
        self._file.truncate()
        return opened

    def _begin(self, keys: KeyProvider, owner: str) -> _Opened:
        head, opened = _new_head(keys, owner)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, PRIVATE)
        self._file = os.fdopen(descriptor, "r+b")
        try:
            self._file.write(head)
            self._sync()
            sync_folder(self.path.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk refuses what is left in its buffer
                self._file.close()
            raise
        return opened

    def _sync(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.fileno())
