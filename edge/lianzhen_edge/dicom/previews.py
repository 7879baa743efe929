"""Previews on the box's disk, sealed, one file an image."""

from pathlib import Path

from lianzhen_runtime.files import private_folder
from lianzhen_runtime.keys import KeyProvider
from lianzhen_runtime.sealedfile import read_sealed, write_sealed


class Previews:
    """A folder of them. Files are touched in the caller's thread."""

    def __init__(self, folder: Path, keys: KeyProvider) -> None:
        self._folder, self._keys = private_folder(folder), keys

    def read(self, key: str) -> bytes:
        """The JPEG; FileNotFoundError while there is none."""
        return b"".join(read_sealed(self._path(key), self._keys, f"preview|{key}"))

    def write(self, key: str, jpeg: bytes) -> None:
        """Keep it, durably."""
        write_sealed(self._path(key), self._keys, f"preview|{key}", jpeg)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.sealed"
