"""Many rows at once: every type, empty columns, and what binary arrays are particular about."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select

from lianzhen_hub.store import sql, tables
from lianzhen_hub.store.database import open_engine, sqlite_url, upgrade

HELD: dict[str, Any] = {
    "log_id": 1, "seq": 1, "node": "n0123456789ab", "stream": "record.people", "code": "x",
    "reason": "国家 \\ { \" , } %s", "state": tables.HELD, "at_ms": 1_800_000_000_000,
    "record_id": b"\0\xff{\\", "kind": "NULL",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    url = sqlite_url(tmp_path_factory.mktemp("hub") / "hub.db")
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        postgres.empty()
        url = postgres.url
    made = open_engine(url)
    upgrade(made)
    yield made
    made.dispose()


@pytest.mark.parametrize("column", ["record_id", "kind"])
@pytest.mark.parametrize("values", [(None, None), (None, "x"), ("x", None), ("x", "y")])
def test_rows_come_back_as_they_went_in(
    engine: Engine, column: str, values: tuple[str | None, ...]
) -> None:
    """Also where a column is empty in all of them, and arrays have no type of their own."""
    binary = column == "record_id"
    rows = [
        HELD | {"seq": seq, column: value.encode() if value and binary else value}
        for seq, value in enumerate(values)
    ]
    with engine.begin() as db:
        db.execute(tables.quarantine.delete())
        sql.insert(db, tables.quarantine, rows)
        sql.insert_new(db, tables.quarantine, rows)
        found = db.execute(select(tables.quarantine).order_by(tables.quarantine.c.seq)).mappings()
        assert [dict(row) for row in found] == rows


@pytest.mark.parametrize("big", [0, -1, 2**15, 2**31, 2**62])
def test_numbers_of_every_size_lie_in_one_column(engine: Engine, big: int) -> None:
    rows = [HELD | {"seq": seq, "at_ms": ms} for seq, ms in enumerate((1, big, 7))]
    with engine.begin() as db:
        db.execute(tables.quarantine.delete())
        assert sql.upsert(db, tables.quarantine, rows) == 3
        assert sql.upsert(db, tables.quarantine, rows) == 3
        found = db.execute(select(tables.quarantine.c.at_ms).order_by(tables.quarantine.c.seq))
        assert list(found.scalars()) == [1, big, 7]


def test_a_row_that_somebody_moved_is_left_as_it_is_and_said(engine: Engine) -> None:
    base = {"node": "n0123456789ab", "epoch": b"e" * 16, "hash": b"h", "safe": 0}

    def move(db: Any, *moves: tuple[str, int, int]) -> int:
        rows = [
            base | {"stream": name, "committed": to, "moved_from": of} for name, of, to in moves
        ]
        return sql.upsert(db, tables.mark, rows, unmoved=("committed", "moved_from"))

    with engine.begin() as db:
        assert move(db, ("a", 0, 3), ("b", 0, 5)) == 2
        assert move(db, ("a", 3, 4), ("b", 4, 9)) == 1
        found = db.execute(select(tables.mark.c.stream, tables.mark.c.committed)).all()
        assert {tuple(row) for row in found} == {("a", 4), ("b", 5)}
