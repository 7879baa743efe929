"""Segments made ahead, while nothing comes: zeros that were really written, and synced.

Merely reserved blocks would cost a commit of the file system at their first use. A spare is taken
under another name; what is not taken is found again after a restart.
"""

import errno
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lianzhen_runtime.log import Log

_ZEROS: Final = memoryview(mmap.mmap(-1, 1 << 20))
_QUIET_SECONDS: Final = 2.0
_log = Log("lianzhen.scp")


def open_direct(path: Path, flags: int) -> int:
    """A file that is written past the page cache, where the file system can: from aligned memory
    to aligned places.
    """
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o600)


class Spares:
    """``count`` spares of ``size`` bytes in a folder; one is made while thrice as much is left."""

    def __init__(
        self,
        folder: Path,
        size: int,
        count: int,
        pwrite: Callable[[int, memoryview, int], None],
        left: Callable[[], int],
    ) -> None:
        self._folder, self._size, self._count = folder, size, count
        self._pwrite, self._left = pwrite, left
        self._found = [each for each in folder.glob("*.spare") if each.stat().st_size == size]
        self._lock = threading.Lock()
        self._ended, self._taken = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        if count:
            self._thread = threading.Thread(target=self._run, name="spares", daemon=True)
            self._thread.start()

    def take(self, path: Path) -> bool:
        """Let a spare be ``path``; False if there is none."""
        with self._lock:
            spare = self._found.pop() if self._found else None
        self._taken.set()
        if spare is None:
            return False
        spare.rename(path)
        return True

    def make(self, path: Path, size: int) -> None:
        """Write one now. OSError: there is none, and nothing of it is left."""
        descriptor = open_direct(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.posix_fallocate(descriptor, 0, size)  # contiguous, and full now or never
            for at in range(0, size, len(_ZEROS)):
                self._pwrite(descriptor, _ZEROS[: min(len(_ZEROS), size - at)], at)
            os.fsync(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Make no more."""
        self._ended.set()
        self._taken.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            wanted = len(self._found) < self._count and not self._taken.is_set()
            if wanted and self._make_one():
                continue
            self._taken.wait()
            while self._taken.is_set() and not self._ended.is_set():
                self._taken.clear()
                self._ended.wait(_QUIET_SECONDS)  # whoever takes one takes more

    def _make_one(self) -> bool:
        if self._left() < 3 * self._count * self._size:
            return False
        number = 1 + max((int(each.stem) for each in self._folder.glob("*.spare")), default=0)
        beside, path = self._folder / f".spare-{number}.new", self._folder / f"{number:08d}.spare"
        try:
            self.make(beside, self._size)
            beside.rename(path)
        except OSError as error:
            _log.warning("no segment can be made ahead", error=type(error).__name__)
            return False
        with self._lock:
            self._found.append(path)
        return True
