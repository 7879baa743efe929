"""A real file system that is small, for tests of what happens when it is full. Needs root."""

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """A file system in memory of a given size, which may grow."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, mode=0o711)
        size = f"size={megabytes}m,mode=711"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], check=True)

    def grow(self, megabytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.folder)], check=True)

    def fill(self) -> None:
        """Somebody else takes all that is left, to the last byte."""
        file = (self.folder / "filler").open("wb", buffering=0)
        with file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        """And gives it back."""
        (self.folder / "filler").unlink()

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    disk = SmallDisk(folder, megabytes)
    try:
        yield disk
    finally:
        disk.remove()
