"""Where whole objects lie, sealed: what the hub asks of such a place, and the file system as one.

::

    images/<node>/<kk>/<key>.original         a Part 10 file, whole, its hash compared
    images/<node>/<kk>/<key>.preview          a JPEG

No name of a sender's is ever in a path.
"""

from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol

from lianzhen_runtime.files import private_folder, sync_folder

Part = Literal["original", "packed", "preview"]
"""``packed`` is a way to bring an original (``runtime/packing.py``), and is never kept."""


class Name(NamedTuple):
    """One object."""

    node: str
    key: str
    part: Part

    def kept_as(self) -> "Name":
        """What the store has once this has come."""
        return self._replace(part="original") if self.part == "packed" else self

    def path(self) -> str:
        """Below a folder, or in a bucket."""
        return f"{self.node}/{self.key[:2]}/{self.key}.{self.part}"


class Store(Protocol):
    """Used in threads, several at once. StoreAway where the store does not answer."""

    @property
    def is_up(self) -> bool:
        """Whether it answered when it was asked last."""

    def has(self, name: Name) -> bool:
        """Whether it is there, whole."""

    def put(self, name: Name, file: Path) -> None:
        """Move a sealed file in; when this returns it is durable there, and ``file`` is gone.

        The same again is the same.
        """

    def open(self, name: Name) -> BinaryIO:
        """The sealed bytes; FileNotFoundError."""


class FileStore:
    """A folder on this machine, the same as the one that parts are in."""

    is_up = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, name: Name) -> bool:
        """Whether it is there, whole."""
        return (self._folder / name.path()).exists()

    def put(self, name: Name, file: Path) -> None:
        """Rename it, durably."""
        path = self._folder / name.path()
        durable_folder(path.parent)
        file.rename(path)
        sync_folder(path.parent)
        if file.parent != path.parent:
            sync_folder(file.parent)

    def open(self, name: Name) -> BinaryIO:
        """The sealed bytes; FileNotFoundError."""
        return (self._folder / name.path()).open("rb")


def durable_folder(path: Path) -> None:
    """``path`` as a private folder that a power cut does not take away again."""
    if not path.is_dir():
        durable_folder(path.parent)
        private_folder(path)
        sync_folder(path.parent)
