"""Making a backup. ::

    <folder>/images/<node>/<kk>/<key>.original    every image, shared by all backups
    <folder>/<time>/database                      a copy of the database, of one moment
    <folder>/<time>/secrets                       authority, keys, audit heads, policies: sealed
    <folder>/<time>/manifest.json                 what belongs to it; written last

The database comes first: whatever it says is whole lies in ``images`` already. A folder without a
manifest is no backup. Nothing is called safe before all of it was read again.
"""

import hashlib
import io
import os
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Engine

from lianzhen_hub import __version__
from lianzhen_runtime.files import private_folder, sync_folder, write_durably

from .dumps import BackupFailed, Snapshot, dump, sync_file
from .recovery import seal

MANIFEST: Final = "manifest.json"
DATABASE: Final = "database"
SECRETS: Final = "secrets"
IMAGES: Final = "images"
_BLOCK: Final = 1 << 20


class File(msgspec.Struct, frozen=True):
    """A file of a backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. ``images``: whether they are here, or in a store of their own."""

    version: int = 1
    made_ms: int
    software: str
    backend: str
    records: int
    streams: int
    images: bool
    image_files: int
    image_bytes: int
    files: dict[str, File]


class Source(NamedTuple):
    """What is backed up. ``images`` is None where they lie in a store of their own."""

    folder: Path
    url: str
    engine: Engine
    images: Path | None
    policies: Path | None
    public_key: bytes


class Made(NamedTuple):
    """A backup that was verified."""

    path: Path
    manifest: Manifest
    snapshot: Snapshot


def make(source: Source, target: Path, now_ms: int) -> Made:
    """Make a backup below ``target`` and read it again. BackupFailed; in a thread."""
    name = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    path, growing = target / name, target / f".{name}.new"
    try:
        private_folder(target)
        for left in target.glob(".*Z.new"):  # by one that was killed
            shutil.rmtree(left)
        growing.mkdir(mode=0o700)
        made = _fill(source, target, growing, now_ms)
        growing.rename(path)
        sync_folder(target)
    except OSError as error:
        raise BackupFailed(f"{error.filename or target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return made._replace(path=path)


def _fill(source: Source, target: Path, growing: Path, now_ms: int) -> Made:
    held = dump(source.engine, source.url, growing / DATABASE)
    count = size = 0
    if source.images is not None:
        count, size = copy_images(source.images, target / IMAGES)
        _check_images(held, target / IMAGES)
    # After the database: whatever key its rows are sealed under is among them.
    sealed = seal(pack(source), source.public_key)
    write_durably(growing / SECRETS, sealed)
    if (growing / SECRETS).read_bytes() != sealed:
        raise BackupFailed("the sealed secrets are not what was written")
    manifest = Manifest(
        made_ms=now_ms,
        software=__version__,
        backend=source.engine.dialect.name,
        records=held.records,
        streams=len(held.streams),
        images=source.images is not None,
        image_files=count,
        image_bytes=size,
        files={name: file_of(growing / name) for name in (DATABASE, SECRETS)},
    )
    write_durably(growing / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return Made(growing, manifest, held)


def pack(source: Source) -> bytes:
    """A tar of what nobody else may read."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("ca", "keys", "audit-heads"):
            if (path := source.folder / name).exists():
                tar.add(path, name)
        if source.policies is not None:
            tar.add(source.policies, "policies")
    return content.getvalue()


def file_of(path: Path) -> File:
    """Size and hash of a file as it lies there now."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return File(size, digest.hexdigest())


def copy_images(source: Path, target: Path) -> tuple[int, int]:
    """Copy what is whole and not there yet; (files, bytes) of all that is there then."""
    count = size = 0
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        for name in names:
            if not name.endswith((".original", ".preview")):
                continue
            path = Path(folder, name)
            wanted = path.stat().st_size
            count, size = count + 1, size + wanted
            copy = here / name
            if not copy.exists() or copy.stat().st_size != wanted:
                private_folder(here)
                _copy(path, copy)
    if target.exists():
        for folder, _, _ in os.walk(target):
            sync_folder(Path(folder))
    return count, size


def _copy(path: Path, copy: Path) -> None:
    beside = copy.with_name(f".{copy.name}.new")
    shutil.copyfile(path, beside)
    beside.chmod(0o600)
    sync_file(beside)
    if file_of(beside) != file_of(path):
        raise BackupFailed(f"the copy of {path.name} is not what was copied")
    beside.rename(copy)


def _check_images(held: Snapshot, images: Path) -> None:
    """Every image that waits for this backup is in it."""
    there = {path.stem for path in images.glob("*/*/*.original")} if held.images else set()
    if missing := held.images - there:
        raise BackupFailed(f"{len(missing)} images of the database are not in its folder of images")
