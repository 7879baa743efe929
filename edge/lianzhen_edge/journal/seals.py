"""The journal's data keys, and sealing a record for its place (docs/protocol.md, 8)."""

import secrets
import sqlite3

from lianzhen_protocol.errors import SealBroken
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.sealing import NONCE_BYTES, SealingKey, record_place
from lianzhen_runtime.keys import KeyProvider, WrappedKey, new_data_key, unwrap


class Seals:
    """One key an epoch, all of one node. Keys are only ever added, so any thread may look."""

    def __init__(self, node: NodeId, keys: KeyProvider) -> None:
        self._node = node
        self._keys = keys
        self._known: dict[Epoch, SealingKey] = {}

    def load(self, db: sqlite3.Connection) -> None:
        """Unwrap the key of every epoch; SecretError or SealBroken if one cannot be."""
        for identity, *wrapped in db.execute("SELECT id, kek_version, key_sealed FROM epoch"):
            key = unwrap(self._keys, self._node, identity, WrappedKey(*wrapped))
            self._known[Epoch(identity)] = key

    def create(self, epoch: Epoch) -> WrappedKey:
        """A key for a new epoch; its wrapped form to store."""
        self._known[epoch], wrapped = new_data_key(self._keys, self._node, epoch)
        return wrapped

    def seal(
        self, epoch: Epoch, stream: str, seq: int, entry: bytes, key: Epoch | None = None
    ) -> bytes:
        """A record sealed for its place, under the key of its epoch or of another one."""
        return self.seal_at(key or epoch, record_place(self._node, epoch, stream, seq), entry)

    def open(self, epoch: Epoch, stream: str, seq: int, sealed: bytes) -> bytes:
        """The record back; SealBroken if the disk changed it."""
        return self.open_at(epoch, record_place(self._node, epoch, stream, seq), sealed)

    def seal_at(self, key: Epoch, place: bytes, plain: bytes) -> bytes:
        """Anything sealed for its place, under the key of an epoch."""
        return self._known[key].seal(secrets.token_bytes(NONCE_BYTES), plain, place)

    def open_at(self, key: Epoch, place: bytes, sealed: bytes) -> bytes:
        """The same back; SealBroken if the disk changed it, or its key is not ours."""
        if key not in self._known:
            raise SealBroken("sealed in an epoch that this journal does not know")
        return self._known[key].open(sealed, place)
