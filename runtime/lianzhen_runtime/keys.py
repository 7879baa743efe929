"""Where key-encryption keys come from. The default is files that only their owner reads.

A file on the same card does not stop a thief of the card; it stops a copied journal, a backup
in the wrong hands and a swapped record. A TPM or a key held at the hub is another KeyProvider.
"""

import secrets
from pathlib import Path
from typing import NamedTuple, Protocol

from lianzhen_protocol.sealing import KEY_BYTES, NONCE_BYTES, SealingKey, key_place

from .errors import SecretError
from .files import private_folder, read_secret, write_durably


class KeyProvider(Protocol):
    """Gives key-encryption keys by version; versions count from 1 and are never reused."""

    def current(self) -> int:
        """The version that new keys are wrapped with."""

    def key(self, version: int) -> SealingKey:
        """The key of a version; SecretError if it is not (any more) there."""


class FileKeys:
    """Key-encryption keys in a private folder, one 32-byte file with mode 0600 a version."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        if self.current() == 0:
            self.rotate()

    def current(self) -> int:
        names = [path.name.removeprefix("kek.") for path in self._folder.glob("kek.*")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def key(self, version: int) -> SealingKey:
        raw = read_secret(self._folder / f"kek.{version}")
        if len(raw) != KEY_BYTES:
            raise SecretError(f"{self._folder}/kek.{version} is damaged; restore it from backup")
        return SealingKey(raw)

    def rotate(self) -> int:
        """A new version for what is wrapped from now on; the old ones stay readable."""
        version = self.current() + 1
        write_durably(self._folder / f"kek.{version}", secrets.token_bytes(KEY_BYTES))
        return version


class WrappedKey(NamedTuple):
    """A data key as it is stored: sealed under key-encryption key ``version``."""

    version: int
    sealed: bytes


def new_data_key(keys: KeyProvider, owner: str, epoch: bytes) -> tuple[SealingKey, WrappedKey]:
    """A fresh data key for an epoch of ``owner``, and its wrapped form to store."""
    raw, version = secrets.token_bytes(KEY_BYTES), keys.current()
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = keys.key(version).seal(nonce, raw, key_place(owner, epoch, version))
    return SealingKey(raw), WrappedKey(version, sealed)


def unwrap(keys: KeyProvider, owner: str, epoch: bytes, wrapped: WrappedKey) -> SealingKey:
    """The data key back; SealBroken if it was wrapped for another epoch or owner."""
    place = key_place(owner, epoch, wrapped.version)
    return SealingKey(keys.key(wrapped.version).open(wrapped.sealed, place))
