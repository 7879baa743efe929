"""The migrations make the tables that the code speaks of, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from lab import Postgres
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import open_engine, sqlite_url, upgrade
from lianzhen_runtime.errors import ConfigError
from support.lab_fixtures import HAS_POSTGRES


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = open_engine(sqlite_url(tmp_path / "hub.db"))
        yield made
        made.dispose()
        return
    if not HAS_POSTGRES:
        pytest.skip("PostgreSQL is not installed")
    server = Postgres()
    try:
        made = open_engine(server.start().url)
        yield made
        made.dispose()
    finally:
        server.remove()


def test_migrations_end_at_the_tables_of_this_release(engine: Engine) -> None:
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_a_database_that_is_up_to_date_is_left_alone(engine: Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(tables.notice.insert().values(at_ms=1, code="x", detail="kept"))
    upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(tables.notice.select()).one().detail == "kept"


def test_a_database_of_another_make_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match="only sqlite and postgresql"):
        open_engine("mysql://somewhere/else")
