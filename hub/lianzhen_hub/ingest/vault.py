"""Data keys of the hub: one an epoch, wrapped by the hub's key-encryption key."""

from sqlalchemy import Connection, select

from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.sealing import SealingKey
from lianzhen_runtime.keys import KeyProvider, WrappedKey, new_data_key, unwrap


class Vault:
    """Finds an epoch's key, or makes it in the caller's transaction."""

    def __init__(self, keys: KeyProvider, database: Database) -> None:
        self._keys = keys
        self._known: dict[Epoch, SealingKey] = {}
        # A key whose row was rolled back must not seal anything.
        database.on_rollback(self.forget)

    def forget(self) -> None:
        """Read every key again: the row of one may have been rolled back."""
        self._known.clear()

    def key(self, connection: Connection, node: NodeId, epoch: Epoch) -> SealingKey:
        """The data key of ``epoch``, which belongs to ``node``."""
        if (known := self._known.get(epoch)) is not None:
            return known
        row = connection.execute(
            select(tables.data_key.c.kek_version, tables.data_key.c.sealed).where(
                tables.data_key.c.epoch == epoch
            )
        ).one_or_none()
        if row is not None:
            key = self._known[epoch] = unwrap(self._keys, node, epoch, WrappedKey(*row))
            return key
        key, wrapped = new_data_key(self._keys, node, epoch)
        connection.execute(
            tables.data_key.insert().values(
                epoch=epoch, kek_version=wrapped.version, sealed=wrapped.sealed
            )
        )
        self._known[epoch] = key
        return key
