"""Files that are whole or absent, and secrets that only their owner reads."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import SecretError, Unavailable

PRIVATE = 0o600


def write_durably(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Replace ``path`` by ``content``: after a power cut it holds the old or the new, whole.

    Written beside, synced, renamed, and the folder synced. OSError as the file system gives it.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        beside.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were added to or removed from ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_durably(path: Path) -> None:
    """Remove ``path`` if it is there, for good."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_secret(path: Path) -> bytes:
    """A secret's bytes; SecretError if it is missing or anybody but its owner may read it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise SecretError(f"{path} is missing") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SecretError(f"{path} can be read by others; run: chmod 600 {path}")
    return path.read_bytes()


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for one program at a time; Unavailable if another one has it.

    The kernel lets go of it however the program ends.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(f"another program is running in {folder}; stop it first") from error
        yield


def private_folder(path: Path, mode: int = 0o700) -> Path:
    """``path`` as a folder with ``mode``, made if missing, and then for good.

    A file is only as durable as the names of all folders on the way to it.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)
    path.chmod(mode)
    return path
