"""A hub out of a backup: into an empty state folder and an empty database, while nothing runs.

What the backup holds is safe, and says so from its first welcome on. What came later is asked for
again from every box; certificates given out meanwhile are taken in as they show themselves.
"""

import io
import tarfile
import time
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import update

from lianzhen_hub.store import tables
from lianzhen_hub.store.database import open_engine, upgrade
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.files import private_folder, sole_user, sync_folder, write_durably

from .dumps import load
from .keeping import RESTORE, note_run
from .making import DATABASE, IMAGES, MANIFEST, SECRETS, Manifest, copy_images, file_of
from .recovery import FILE, unseal

_HELD = ("ca", "keys", "audit-heads", "policies")
_PACKED = frozenset((name,) for name in _HELD)


class Restored(NamedTuple):
    """What came back."""

    path: Path
    manifest: Manifest


def choose(folder: Path, name: str | None) -> Path:
    """The newest whole backup below ``folder``, or the one of that name; Unavailable."""
    found = sorted(path.parent for path in folder.glob(f"*Z/{MANIFEST}"))
    if name is not None:
        found = [path for path in found if path.name == name]
    if not found:
        raise Unavailable(f"there is no backup{f' {name}' if name else ''} in {folder}")
    return found[-1]


def check(path: Path) -> Manifest:
    """Read all of a backup's own files again; Unavailable where one is not as it was made."""
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
        wrong = [name for name, file in manifest.files.items() if file_of(path / name) != file]
    except (OSError, msgspec.MsgspecError) as error:
        raise Unavailable(f"the backup {path} cannot be read: {error}") from error
    if wrong:
        raise Unavailable(f"the backup {path} is damaged: {', '.join(wrong)}; take another one")
    return manifest


def _unpack(packed: bytes, state: Path) -> None:
    """Folders and files below ``state``, each synced, with the modes that they had.

    Not by tarfile's own filters: Python 3.11.2, Debian 12's, has none.
    """
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts or place.parts[:1] not in _PACKED:
                raise Unavailable(f"the backup holds {member.name}, which is none of the hub's")
            if member.isdir():
                private_folder(state / place, member.mode & 0o777)
            elif (content := tar.extractfile(member)) is not None:
                write_durably(state / place, content.read(), member.mode & 0o777)


def restore(path: Path, state: Path, url: str, private: X25519PrivateKey) -> Restored:
    """Bring a hub back.

    Unavailable, SecretError or BackupFailed, and then try again with an empty folder.
    """
    manifest = check(path)
    with sole_user(private_folder(state, 0o711)):
        there = [name for name in (*_HELD, IMAGES) if (state / name).exists()]
        if there:
            raise Unavailable(
                f"{state} holds {', '.join(there)}: move it away before a backup is restored there"
            )
        packed = unseal((path / SECRETS).read_bytes(), private)
        load(url, path / DATABASE)
        if manifest.images:
            copy_images(path.parent / IMAGES, state / IMAGES)
        _unpack(packed, state)
        write_durably(state / FILE, private.public_key().public_bytes_raw())
        _call_safe(url, path.name, manifest)
        sync_folder(state)
    return Restored(path, manifest)


def _call_safe(url: str, name: str, manifest: Manifest) -> None:
    """All that the database holds now is in this backup."""
    engine = open_engine(url)
    try:
        upgrade(engine)
        with engine.begin() as db:
            mark = tables.mark
            db.execute(update(mark).values(safe=mark.c.committed))
            note_run(db, RESTORE, time.time_ns() // 1_000_000, name, manifest.records)
    finally:
        engine.dispose()
