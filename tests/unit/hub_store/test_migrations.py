"""The migrations make the tables that the code speaks of and keep their rows, on both databases."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, UniqueConstraint, select

import lianzhen_hub.store
from lab import Postgres
from lianzhen_hub.store import months, sql, tables
from lianzhen_hub.store.database import newest_revision, open_engine, revision, sqlite_url, upgrade
from lianzhen_protocol.identity import uuid7
from lianzhen_runtime.errors import ConfigError
from support.lab_fixtures import HAS_POSTGRES

NODES = [f"n00000000000{letter}" for letter in "abcd"]
SUMMER_MS, AUTUMN_MS = 1_784_000_000_000, 1_793_000_000_000
"""July and October 2026."""

STREAM = {"node": NODES[0], "epoch": b"e" * 16, "stream": "record.people"}
MARK: dict[str, Any] = STREAM | {"committed": 3, "hash": b"h", "safe": 3, "committed_ms": 5}


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = open_engine(sqlite_url(tmp_path / "hub.db"))
    else:
        if not HAS_POSTGRES:
            pytest.skip("PostgreSQL is not installed")
        server: Postgres = request.getfixturevalue("postgres")
        server.empty()
        made = open_engine(server.url)
    yield made
    made.dispose()


def upgrade_to(engine: Engine, revision: str) -> None:
    """To an earlier release."""
    config = Config()
    folder = Path(lianzhen_hub.store.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_migrations_end_at_the_tables_of_this_release(engine: Engine) -> None:
    assert revision(engine) is None
    upgrade(engine)
    assert revision(engine) == newest_revision()
    parted = engine.dialect.name == "postgresql"

    def meant(made: Any, name: str | None, kind: str, reflected: bool, _other: Any) -> bool:
        """PostgreSQL's months are tables too, and its log's runs are unique by the marks."""
        if kind == "table" and reflected:
            return str(name) in tables.metadata.tables or str(name) == "alembic_version"
        return not (parted and isinstance(made, UniqueConstraint) and made.table.name == "log")

    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": meant}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
        assert context.get_current_heads() == (newest_revision(),)


def _filled(engine: Engine) -> None:
    """The database of a release that parted nothing: two months, and a clock at 1970."""
    columns = ("node", "epoch", "stream", "first", "count", "sealed", "received_ms")
    with engine.begin() as db:
        runs = [
            (node, b"e" * 16, stream, 1 + at, 1, b"s" * 40, ms)
            for node in NODES
            for stream in ("record.people", "vitals.readings")
            for at, ms in enumerate((SUMMER_MS, AUTUMN_MS, 5))
        ]
        rows = [dict(zip(columns, run, strict=True)) for run in runs]
        sql.insert(db, tables.log, rows)
        log = db.execute(select(tables.log).order_by(tables.log.c.id)).all()
        sql.insert(db, tables.record, [_record(row, "vitals.reading") for row in log])
        sql.insert(db, tables.mark, [MARK])


def _record(row: Any, kind: str) -> dict[str, Any]:
    identity = uuid7(row.received_ms, row.id.to_bytes(10))
    place = {"node": row.node, "epoch": row.epoch, "stream": row.stream, "seq": row.first}
    times = {"created_ms": row.received_ms, "received_ms": row.received_ms}
    return {"id": identity, **place, "log_id": row.id, "kind": kind, **times}


def _all(engine: Engine) -> dict[str, list[Any]]:
    with engine.connect() as db:
        order = {tables.log: tables.log.c.id, tables.record: tables.record.c.log_id}
        rows = {
            table.name: [tuple(row) for row in db.execute(select(table).order_by(column))]
            for table, column in order.items()
        }
        kept = [tuple(row) for row in db.execute(select(tables.log_kept))]
        return rows | {"mark": [row[:7] for row in db.execute(select(tables.mark))], "kept": kept}


def test_a_filled_database_of_before_keeps_every_row(engine: Engine) -> None:
    """Also those that no month can hold; and the log goes on counting."""
    upgrade_to(engine, "0006")
    _filled(engine)
    with engine.connect() as db:
        logged = [tuple(row) for row in db.execute(select(tables.log).order_by(tables.log.c.id))]
        applied = db.execute(select(tables.record).order_by(tables.record.c.log_id)).all()
    upgrade(engine)
    found = _all(engine)
    assert found["log"] == logged
    assert found["record"] == [tuple(row) for row in applied]
    assert found["mark"] == [tuple(MARK.values())]
    assert found["kept"] == []
    row = dict(zip(tables.log.c.keys(), logged[0], strict=True)) | {"first": 4}
    with engine.begin() as db:
        sql.insert(db, tables.log, [{name: row[name] for name in row if name != "id"}])
    assert _all(engine)["log"][-1][0] == len(logged) + 1


def _counted(db: Connection, query: str) -> dict[str, int]:
    return {row[0]: row[1] for row in db.exec_driver_sql(query)}


def test_every_row_lies_in_its_month_and_its_node_s_part(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has whole tables")
    upgrade_to(engine, "0006")
    _filled(engine)
    upgrade(engine)
    with engine.connect() as db:
        query = "SELECT tableoid::regclass::text, count(*) FROM {} GROUP BY 1"
        log, record = (_counted(db, query.format(table)) for table in ("log", "record"))
        assert months.strays(db) == {"log": 8, "record": 8}
    assert sum(log.values()) == 24
    assert {name[:11] for name in log} == {"log_2026_07", "log_2026_10", "log_other"}
    assert record == {"record_2026_07": 8, "record_2026_10": 8, "record_other": 8}


def test_a_run_with_what_is_nowhere_else_is_marked(engine: Engine) -> None:
    """A stream of readings with something else on it: retention must know, for rows of before."""
    upgrade_to(engine, "0006")
    _filled(engine)
    with engine.begin() as db:
        rows = db.execute(select(tables.log).where(tables.log.c.stream == "vitals.readings")).all()
        other = _record(rows[0], "patient.registered") | {"id": uuid7(SUMMER_MS, bytes(10))}
        sql.insert(db, tables.record, [other])
    upgrade(engine)
    assert _all(engine)["kept"] == [(rows[0].id,)]


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
