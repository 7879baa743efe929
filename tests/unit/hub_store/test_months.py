"""Months of the growing tables in PostgreSQL: made ahead, made late, never a reason to refuse."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from lab import Postgres
from lianzhen_hub.store import months, sql, tables
from lianzhen_hub.store.database import open_engine, upgrade
from lianzhen_protocol.identity import uuid7

MARCH = 2031 * 12 + 2
MARCH_MS = months.first_ms(MARCH)
DAY_MS = 86_400_000
RUN = {"node": "n0123456789ab", "epoch": b"e" * 16, "stream": "vitals.readings", "first": 1}


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Engine]:
    postgres.empty()
    made = open_engine(postgres.url)
    upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def engine(database: Engine) -> Engine:
    """Empty, and without a month."""
    with database.begin() as db:
        for table in months.GROWING:
            for month in months.months(db, table):
                db.exec_driver_sql(f"DROP TABLE {month.name}")
            db.exec_driver_sql(f"TRUNCATE {table.name}, notice RESTART IDENTITY")
    return database


def run(received_ms: int, node: str = RUN["node"]) -> dict[str, Any]:  # type: ignore[assignment]
    return RUN | {"node": node, "count": 1, "sealed": b"s", "received_ms": received_ms}


def record(created_ms: int, number: int) -> dict[str, Any]:
    place = {name: RUN[name] for name in ("node", "epoch", "stream")}
    identity = uuid7(created_ms, number.to_bytes(10))
    times = {"created_ms": created_ms, "received_ms": created_ms}
    return {"id": identity, **place, "seq": number, "log_id": 1, "kind": "x", **times}


def where(engine: Engine, table: str) -> list[str]:
    """The month of every row."""
    with engine.connect() as db:
        query = f"SELECT tableoid::regclass::text FROM {table} ORDER BY 1"
        names = db.exec_driver_sql(query).scalars()
        return [name[:-2] if name[-2] == "_" else name for name in names]


@pytest.mark.parametrize(
    ("ms", "month"), [(0, 1970 * 12), (MARCH_MS, MARCH), (MARCH_MS - 1, MARCH - 1)]
)
def test_a_month_begins_with_its_first_millisecond(ms: int, month: int) -> None:
    assert months.month_of(ms) == month
    assert months.first_ms(month) <= ms < months.first_ms(month + 1)


def test_this_month_and_two_more_are_made_once(engine: Engine) -> None:
    with engine.begin() as db:
        made = months.keep_ahead(db, MARCH_MS)
        again = months.keep_ahead(db, MARCH_MS + DAY_MS)
    assert made == [
        f"{table}_2031_{month}" for table in ("log", "record") for month in ("03", "04", "05")
    ]
    assert again == []


def test_a_row_without_a_month_is_taken_and_moves_when_its_month_is_made(engine: Engine) -> None:
    """March was never made; January 1970 is nobody's."""
    with engine.begin() as db:
        sql.insert(db, tables.log, [run(MARCH_MS + 1), run(5), run(MARCH_MS - 1)])
        sql.insert(db, tables.record, [record(MARCH_MS, 1), record(5, 2)])
        assert months.tell_strays(db, MARCH_MS) == {"log": 3, "record": 2}
        assert db.execute(select(tables.notice.c.code)).scalar() == months.MISSING
    with engine.begin() as db:
        months.keep_ahead(db, MARCH_MS)
        assert months.tell_strays(db, MARCH_MS) == {"log": 1, "record": 1}
    assert where(engine, "log") == ["log_2031_02", "log_2031_03", "log_other"]
    assert where(engine, "record") == ["record_2031_03", "record_other"]
    with engine.begin() as db:
        sql.insert(db, tables.log, [run(MARCH_MS + 2)])
        ids = list(db.execute(select(tables.log.c.id).order_by(tables.log.c.id)).scalars())
    assert ids == [1, 2, 3, 4]
    assert where(engine, "log").count("log_2031_03") == 2


def test_an_id_is_known_whatever_month_it_is_told_again_in(engine: Engine) -> None:
    """Its month is in it, so one key holds for all months."""
    with engine.begin() as db:
        months.keep_ahead(db, MARCH_MS)
        first = record(MARCH_MS, 7)
        sql.insert_new(db, tables.record, [first])
        later = {"node": "n00000000000b", "received_ms": MARCH_MS + 60 * DAY_MS, "seq": 900}
        sql.insert_new(db, tables.record, [first | later])
        (found,) = db.execute(select(tables.record)).all()
    assert found.seq == 7


def test_a_month_lies_in_parts_by_node(engine: Engine) -> None:
    nodes = [f"n{number:012d}" for number in range(40)]
    with engine.begin() as db:
        months.keep_ahead(db, MARCH_MS)
        sql.insert(db, tables.log, [run(MARCH_MS, node) for node in nodes * 2])
        query = "SELECT count(DISTINCT tableoid) FROM log GROUP BY node"
        assert set(db.exec_driver_sql(query).scalars()) == {1}
        query = "SELECT count(DISTINCT tableoid) FROM log"
        assert db.exec_driver_sql(query).scalar() == months.PARTS


def test_whoever_holds_the_table_is_not_waited_for_long(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is half made then, and rows go on being taken."""
    monkeypatch.setattr(months, "_LOCK_MS", 50)
    with engine.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM log")
        with pytest.raises(OperationalError), engine.begin() as db:
            months.keep_ahead(db, MARCH_MS)
        with engine.begin() as db:
            sql.insert(db, tables.log, [run(MARCH_MS)])
    with engine.begin() as db:
        assert len(months.keep_ahead(db, MARCH_MS)) == 6
    assert where(engine, "log") == ["log_2031_03"]


def test_programs_that_start_together_make_a_month_once(engine: Engine) -> None:
    made: list[str] = []

    def start() -> None:
        with engine.begin() as db:
            made.extend(months.keep_ahead(db, MARCH_MS))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 6
