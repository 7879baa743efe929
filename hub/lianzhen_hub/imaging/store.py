"""The object store: sealed files below the hub's state, written durably, each part resumable.

::

    images/<node>/<kk>/<key>.original         a Part 10 file, whole, its hash compared
    images/<node>/<kk>/<key>.preview          a JPEG
    images/<node>/<kk>/<key>.<digest>.part    what has come of one of them

Node, key and digest are checked before they come here; no name of a sender's is ever in a path.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

from lianzhen_runtime.files import private_folder, sync_folder
from lianzhen_runtime.keys import KeyProvider
from lianzhen_runtime.sealedfile import SealedWriter, read_sealed

from .errors import DigestDiffers, OffsetConflict

Part = Literal["original", "preview"]
_OPEN: Final = 16
"""Uploads that are kept open between two chunks."""


class Name(NamedTuple):
    """One object."""

    node: str
    key: str
    part: Part


class _Upload:
    """A part as far as it has come; used under its lock only."""

    def __init__(self, writer: SealedWriter) -> None:
        self.writer = writer
        self.hash = hashlib.sha256()
        for chunk in writer.taken:
            self.hash.update(chunk)
        writer.taken.clear()


class ObjectStore:
    """On the event loop; files are touched in threads."""

    def __init__(self, folder: Path, keys: KeyProvider) -> None:
        self._folder = private_folder(folder)
        self._keys = keys
        self._open: OrderedDict[tuple[Name, str], _Upload] = OrderedDict()
        self._locks: dict[Name, tuple[asyncio.Lock, list[None]]] = {}

    def has(self, name: Name) -> bool:
        """Whether it is here, whole."""
        return self._path(name).exists()

    async def offset(self, name: Name, digest: str) -> int:
        """Bytes of a part that are durable."""
        async with self._alone(name):
            return (await self._upload(name, digest)).writer.size

    async def append(self, name: Name, digest: str, offset: int, chunk: bytes, length: int) -> int:
        """Add a chunk at ``offset`` and give the new one; at ``length`` the object is whole.

        OffsetConflict, or DigestDiffers: then what came is dropped.
        """
        async with self._alone(name):
            if self.has(name):
                return length
            upload = await self._upload(name, digest)
            size = upload.writer.size
            if offset != size or size + len(chunk) > length:
                raise OffsetConflict(f"this part ends at byte {size} of {length}; go on there")
            try:
                if chunk:
                    await asyncio.to_thread(upload.writer.append, chunk)
            except OSError:
                self._forget(name, digest)
                raise
            upload.hash.update(chunk)
            if size + len(chunk) == length:
                await self._finish(name, digest, upload)
            return size + len(chunk)

    async def _finish(self, name: Name, digest: str, upload: _Upload) -> None:
        found, path = upload.hash.hexdigest(), upload.writer.path
        self._forget(name, digest)
        if found != digest:
            await asyncio.to_thread(path.unlink)
            raise DigestDiffers("the hash of what came is not the one that was said; begin anew")

        def keep() -> None:
            path.rename(self._path(name))
            sync_folder(path.parent)

        await asyncio.to_thread(keep)

    def read(self, name: Name) -> Iterator[bytes]:
        """The plain chunks. FileNotFoundError, or SealBroken if the disk changed them."""
        return read_sealed(self._path(name), self._keys, _owner(name))

    async def content(self, name: Name) -> bytes:
        """All of it, read in a thread."""
        return await asyncio.to_thread(lambda: b"".join(self.read(name)))

    def close(self) -> None:
        """Let go of all files."""
        for upload in self._open.values():
            upload.writer.close()
        self._open.clear()

    async def _upload(self, name: Name, digest: str) -> _Upload:
        if (known := self._open.get((name, digest))) is not None:
            self._open.move_to_end((name, digest))
            return known
        path = self._path(name).with_suffix(f".{digest[:16]}.part")

        def take_up() -> _Upload:
            private_folder(path.parent)
            return _Upload(SealedWriter(path, self._keys, _owner(name)))

        self._open[name, digest] = upload = await asyncio.to_thread(take_up)
        for other in [key for key in self._open if key[0] not in self._locks][: -_OPEN or None]:
            self._forget(*other)
        return upload

    def _forget(self, name: Name, digest: str) -> None:
        upload = self._open.pop((name, digest), None)
        if upload is not None:
            upload.writer.close()

    @asynccontextmanager
    async def _alone(self, name: Name) -> AsyncIterator[None]:
        """One at a time for an object; the lock lives as long as somebody wants it."""
        lock, wanted = self._locks.setdefault(name, (asyncio.Lock(), []))
        wanted.append(None)
        try:
            async with lock:
                yield
        finally:
            wanted.pop()
            if not wanted:
                self._locks.pop(name, None)

    def _path(self, name: Name) -> Path:
        return self._folder / name.node / name.key[:2] / f"{name.key}.{name.part}"


def _owner(name: Name) -> str:
    return f"image|{name.node}|{name.key}|{name.part}"
