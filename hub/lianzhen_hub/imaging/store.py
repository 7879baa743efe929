"""Images at the hub: what has come of each, kept as it comes, and the store that has them whole.

A part is ``<key>.<digest>.part`` beside where the file would be, always on this machine's disk:
sealed, durable chunk by chunk, and kept until it is whole, however long that takes. A chunk says
the hash of everything up to its end, so that a wrong one is refused before it is written. Of a
chunk that the line cut off we keep what came, and believe it when the next hash proves it. An
object goes to the store when its own hash is right, a packed one when what it unpacks to has the
original's; whoever asks again repairs what a kill left in
between. Node, key and digest are checked before they come here.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from lianzhen_hub.settings import Settings
from lianzhen_runtime.files import private_folder
from lianzhen_runtime.keys import KeyProvider
from lianzhen_runtime.preview import PreviewWorker
from lianzhen_runtime.sealedfile import (
    SealedWriter,
    open_sealed,
    read_part,
    read_sealed,
    write_sealed,
)

from .errors import ChunkDiffers, DigestDiffers, OffsetConflict, PackedDiffers, StoreAway
from .stores import FileStore, Name, Store, durable_folder

FOLDER: Final = "images"
_OPEN: Final = 16
"""Uploads that are kept open between two chunks."""


class Chunk(NamedTuple):
    """What came in one request. ``reached``: SHA-256 of the whole up to this chunk's end, or None
    if the line was cut before that came.
    """

    offset: int
    content: bytes
    reached: str | None


class Whole(NamedTuple):
    """What the manifest says of an original."""

    size: int
    sha256: str


class _Upload:
    """A part as far as it has come; used under its lock, in one thread at a time."""

    def __init__(self, path: Path, keys: KeyProvider, owner: str) -> None:
        self._hash = hashlib.sha256()
        self._writer = SealedWriter(path, keys, owner, self._hash.update)
        self.path = path
        self._proved = self._writer.mark(), self._hash.copy()
        self._refused = 0

    @property
    def size(self) -> int:
        """Bytes that are durable."""
        return self._writer.size

    def append(self, chunk: Chunk, length: int) -> None:
        """Keep it, durably; OffsetConflict, ChunkDiffers or DigestDiffers: nothing of it is."""
        if chunk.offset == self._proved[0].size < self.size and chunk.reached is not None:
            self._go_back()  # what was cut off comes again, as a whole
        if chunk.offset != self.size or self.size + len(chunk.content) > length:
            raise OffsetConflict(f"this part ends at byte {self.size} of {length}; go on there")
        following = self._hash.copy()
        following.update(chunk.content)
        if chunk.reached is not None and following.hexdigest() != chunk.reached:
            self._refuse()
        if chunk.content:
            self._writer.append(chunk.content)
        self._hash = following
        if chunk.reached is not None:
            self._proved, self._refused = (self._writer.mark(), following.copy()), 0

    def _refuse(self) -> None:
        self._refused += 1
        if self.size > self._proved[0].size:  # or what came before was wrong
            self._go_back()
        elif self._refused > 1:
            raise DigestDiffers("the hash up to here differs again and again; begin anew")
        raise ChunkDiffers(f"what came is not what was sent; go on at byte {self.size}")

    def _go_back(self) -> None:
        mark, proved = self._proved
        self._writer.back_to(mark)
        self._hash = proved.copy()

    def digest(self) -> str:
        """SHA-256 of what has come."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Let go of the file."""
        self._writer.close()


class ObjectStore:
    """On the event loop; files and the store are touched in threads."""

    def __init__(self, folder: Path, keys: KeyProvider, store: Store) -> None:
        self._folder = private_folder(folder)
        self._keys = keys
        self._store = store
        self._open: OrderedDict[tuple[Name, str], _Upload] = OrderedDict()
        self._locks: dict[Name, tuple[asyncio.Lock, list[None]]] = {}
        self._closed = False
        self.unpacker = PreviewWorker()

    @property
    def store_is_up(self) -> bool:
        """Whether the store answered when it was asked last."""
        return self._store.is_up

    async def offset(self, name: Name, digest: str, length: int) -> int:
        """Bytes of it that are durable; ``length`` if it is whole."""
        async with self._alone(name):
            upload = await self._upload(name, digest)
            return length if upload is None else upload.size

    async def append(
        self, name: Name, digest: str, chunk: Chunk, length: int, whole: Whole | None = None
    ) -> int:
        """Add a chunk and give the new end; at ``length`` the object is whole, in its store.

        ``whole``: what a packed one must come out as. OffsetConflict or ChunkDiffers; DigestDiffers
        or PackedDiffers: then what came is dropped; StoreAway.
        """
        async with self._alone(name):
            upload = await self._upload(name, digest)
            if upload is None:
                return length
            try:
                await asyncio.to_thread(upload.append, chunk, length)
            except OSError:
                self._forget(name, digest)
                raise
            except DigestDiffers:
                await self._drop(name, digest, upload)
                raise
            if upload.size == length:
                await self._finish(name, digest, upload, whole)
            return upload.size

    async def _finish(self, name: Name, digest: str, upload: _Upload, whole: Whole | None) -> None:
        if upload.digest() != digest:
            await self._drop(name, digest, upload)
            raise DigestDiffers("the hash of what came is not the one that was said; begin anew")
        self._forget(name, digest)
        path = upload.path if whole is None else await self._unpacked(name, upload.path, whole)
        await asyncio.to_thread(self._store.put, name.kept_as(), path)
        if path != upload.path:
            await asyncio.to_thread(upload.path.unlink)

    async def _unpacked(self, name: Name, packed: Path, whole: Whole) -> Path:
        """The original beside its packed form, sealed, its hash compared."""
        kept = name.kept_as()
        path = (self._folder / kept.path()).with_suffix(".unpacked.part")
        content = await asyncio.to_thread(_read, packed, self._keys, _owner(name))
        file = await self.unpacker.unpack(content, whole.size)

        def keep() -> bool:
            if file is None or hashlib.sha256(file).hexdigest() != whole.sha256:
                packed.unlink()
                return False
            write_sealed(path, self._keys, _owner(kept), file)
            return True

        if not await asyncio.to_thread(keep):
            raise PackedDiffers("what came does not unpack to the original; send that")
        return path

    async def _drop(self, name: Name, digest: str, upload: _Upload) -> None:
        self._forget(name, digest)
        await asyncio.to_thread(upload.path.unlink)

    def read(self, name: Name) -> Iterator[bytes]:
        """The plain chunks. FileNotFoundError, or SealBroken if somebody changed them."""
        with self._store.open(name) as file:
            yield from open_sealed(file, self._keys, _owner(name))

    async def content(self, name: Name) -> bytes:
        """All of it, read in a thread."""
        return await asyncio.to_thread(lambda: b"".join(self.read(name)))

    async def part(self, name: Name, begin: int, end: int) -> bytes:
        """Bytes from ``begin`` to before ``end``, read in a thread; as ``read``."""

        def take() -> bytes:
            with self._store.open(name) as file:
                return read_part(file, self._keys, _owner(name), begin, end)

        return await asyncio.to_thread(take)

    def close(self) -> None:
        """Let go of all files, for good: a request whose line was cut may outlive its server."""
        self._closed = True
        self.let_go()

    def let_go(self) -> None:
        """Of all files; each is taken up again when somebody goes on with it."""
        for upload in self._open.values():
            upload.close()
        self._open.clear()

    async def _upload(self, name: Name, digest: str) -> _Upload | None:
        """What has come so far; None if the store has it, whole."""
        if (known := self._open.get((name, digest))) is not None:
            self._open.move_to_end((name, digest))
            return known
        path = (self._folder / name.path()).with_suffix(f".{digest[:16]}.part")

        def take_up() -> _Upload | None:
            if self._store.has(name.kept_as()):
                path.unlink(missing_ok=True)  # killed between the store and its removal
                return None
            durable_folder(path.parent)
            return _Upload(path, self._keys, _owner(name))

        upload = None if self._closed else await asyncio.to_thread(take_up)
        if self._closed:
            if upload is not None:
                upload.close()
            raise StoreAway("the hub ends; ask again")
        if upload is None:
            return None
        self._open[name, digest] = upload
        for other in [key for key in self._open if key[0] not in self._locks][: -_OPEN or None]:
            self._forget(*other)
        return upload

    def _forget(self, name: Name, digest: str) -> None:
        upload = self._open.pop((name, digest), None)
        if upload is not None:
            upload.close()

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


def image_store(settings: Settings) -> Store:
    """Where whole objects are kept, by configuration."""
    files = FileStore(settings.folder / FOLDER)
    if settings.images is None:
        return files
    from .s3 import S3Store  # its library is large, and only here

    return S3Store(settings.images, settings.images_endpoint, settings.images_region, files)


def _read(path: Path, keys: KeyProvider, owner: str) -> bytes:
    return b"".join(read_sealed(path, keys, owner))


def _owner(name: Name) -> str:
    return f"image|{name.node}|{name.key}|{name.part}"
