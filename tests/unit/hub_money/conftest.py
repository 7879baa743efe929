"""The hub's database on both backends, as for its ingest."""

from unit.hub_ingest.conftest import address, database, keys, outbox, vault

__all__ = ["address", "database", "keys", "outbox", "vault"]
