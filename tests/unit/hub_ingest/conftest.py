"""The hub's database on both backends, empty for every test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lianzhen_hub.ingest.downlink import Outbox
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database, sqlite_url
from lianzhen_runtime.keys import FileKeys


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path_factory.mktemp("hub") / "hub.db")
        return
    postgres = request.getfixturevalue("postgres")
    postgres.empty()
    yield postgres.url


@pytest.fixture
async def database(address: str) -> AsyncIterator[Database]:
    async with Database(address) as made:
        yield made
        with made.engine.begin() as connection:
            for table in reversed(tables.metadata.sorted_tables):
                connection.execute(table.delete())
            if made.backend == "postgresql":  # a new database counts its log from 1
                connection.exec_driver_sql("ALTER SEQUENCE log_id_seq RESTART")


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    return FileKeys(tmp_path / "keys")


@pytest.fixture
def vault(keys: FileKeys, database: Database) -> Vault:
    return Vault(keys, database)


@pytest.fixture
def outbox(vault: Vault) -> Outbox:
    return Outbox(vault)
