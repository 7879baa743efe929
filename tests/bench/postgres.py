"""The hub's growing tables in PostgreSQL: how rows go in, and what months and parts cost and spare.

The same frames go into a whole log, one of months, and one of months in parts by node (the hub's),
as binary arrays (as the hub does), as arrays of text and by COPY, in turns; every transaction is a
durable commit. Then two years are filled, and what the hub asks of them is asked of each.
Nothing here fails for being slow.
"""

import argparse
import itertools
import json
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from sqlalchemy import Connection, Engine, select

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "deploy")]

from bench.common.measure import machine, syncs_per_second  # noqa: E402
from lab import Postgres  # noqa: E402
from lianzhen_hub.ingest.order import NextRows  # noqa: E402
from lianzhen_hub.store import months, sql, tables  # noqa: E402
from lianzhen_hub.store.database import open_engine, upgrade  # noqa: E402

_NOW_MS: Final = 1_795_392_000_000
_PLAIN = """
CREATE TABLE {schema}.log (
    id BIGINT NOT NULL DEFAULT nextval('public.log_id_seq'), node VARCHAR(13) NOT NULL,
    epoch BYTEA NOT NULL, stream VARCHAR(64) NOT NULL, first BIGINT NOT NULL,
    count INTEGER NOT NULL, sealed BYTEA NOT NULL, received_ms BIGINT NOT NULL, {key}
) {parted}
"""
_SHAPES: Final = {
    "whole": ("PRIMARY KEY (id), UNIQUE (node, epoch, stream, first)", ""),
    "months": ("PRIMARY KEY (id, received_ms, node)", "PARTITION BY RANGE (received_ms)"),
    "months and parts": ("PRIMARY KEY (id, received_ms, node)", "PARTITION BY RANGE (received_ms)"),
}
_NAMES: Final = ("node", "epoch", "stream", "first", "count", "sealed", "received_ms")
_KINDS: Final = ("varchar", "bytea", "varchar", "int8", "int4", "bytea", "int8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench postgres", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    add("--commits", type=int, default=60, help="in a turn (%(default)s)")
    add("--frames", type=int, default=(8, 64), nargs="*", help="in a commit (%(default)s)")
    add("--bytes", type=int, default=(32_000, 1800), nargs="*", help="of each (%(default)s)")
    add("--months", type=int, default=24, help="that are filled for the questions (%(default)s)")
    add("--rows", type=int, default=2000, help="in each of them (%(default)s)")
    add("--questions", type=int, default=300, help="of each kind (%(default)s)")
    return parser.parse_args(arguments)


def _schema(name: str) -> str:
    return name.replace(" ", "_")


def _create(db: Connection, name: str, span: range) -> None:
    key, parted = _SHAPES[name]
    schema = _schema(name)
    db.exec_driver_sql(f"CREATE SCHEMA {schema}")
    db.exec_driver_sql(_PLAIN.format(schema=schema, key=key, parted=parted))
    if not parted:
        return
    db.exec_driver_sql(f"SET LOCAL search_path TO {schema}")
    db.exec_driver_sql("CREATE TABLE log_other PARTITION OF log DEFAULT")
    growing = months.LOG._replace(parts=months.PARTS if "parts" in name else 1)
    for month in span:
        months.make(db, growing, month)


class Link:
    """A connection to one of the logs, and what it and its server process spent."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.connection = engine.connect()
        with self.connection.begin():
            self.connection.exec_driver_sql(f"SET search_path TO {_schema(name)}, public")
            pid = self.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        self._server = psutil.Process(pid)

    def spent(self) -> tuple[float, float]:
        """CPU seconds of the hub's side and of the server's."""
        times = self._server.cpu_times()
        return time.process_time(), times.user + times.system


def _by_arrays(db: Connection, rows: list[dict[str, Any]]) -> None:
    sql.insert(db, tables.log, rows)


def _by_copy(db: Connection, rows: list[dict[str, Any]]) -> None:
    driver: Any = db.connection.driver_connection
    statement = f"COPY log ({', '.join(_NAMES)}) FROM STDIN (FORMAT BINARY)"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(_KINDS)
        for row in rows:
            copy.write_row(tuple(row.values()))


def _by_text(db: Connection, rows: list[dict[str, Any]]) -> None:
    arrays = tuple([row[name] for row in rows] for name in _NAMES)
    unnested = ", ".join(f"%t::{kind}[]" for kind in _KINDS)
    statement = f"INSERT INTO log ({', '.join(_NAMES)}) SELECT * FROM unnest({unnested})"
    db.exec_driver_sql(statement, arrays)


_WAYS: Final[dict[str, Callable[[Connection, list[dict[str, Any]]], None]]] = {
    "arrays": _by_arrays,
    "COPY": _by_copy,
    "arrays of text": _by_text,
}
_OURS: Final = "months and parts"
_FIELD: Final = (
    ("whole", "arrays"),
    ("months", "arrays"),
    (_OURS, "arrays"),
    (_OURS, "COPY"),
    (_OURS, "arrays of text"),
)


_first = itertools.count(1, 100)


def _frames(count: int, size: int, now_ms: int = _NOW_MS) -> list[dict[str, Any]]:
    sealed, epoch, stream = secrets.token_bytes(size), b"e" * 16, "vitals.readings"
    values = (
        (f"n{number % 50:012d}", epoch, stream, next(_first), 100, sealed, now_ms)
        for number in range(count)
    )
    return [dict(zip(_NAMES, each, strict=True)) for each in values]


class Turns:
    """What the turns of one contender came to."""

    def __init__(self, shape: str, way: str, link: Link) -> None:
        self.shape, self.way, self.link = shape, way, link
        self.rates: list[float] = []
        self.hub: list[float] = []
        self.server: list[float] = []

    def turn(self, commits: int, frames: int, size: int) -> None:
        batches = [_frames(frames, size) for _ in range(commits)]
        put, before, began = _WAYS[self.way], self.link.spent(), time.monotonic()
        for rows in batches:
            with self.link.connection.begin():
                put(self.link.connection, rows)
        elapsed, after = time.monotonic() - began, self.link.spent()
        count = commits * frames
        self.rates.append(count / elapsed)
        self.hub.append((after[0] - before[0]) / count * 1e6)
        self.server.append((after[1] - before[1]) / count * 1e6)

    def row(self, frames: int, size: int) -> list[str]:
        return [
            f"{frames} frames of {size} B into {self.shape}, {self.way}",
            f"{statistics.median(self.rates):.0f}",
            f"{min(self.rates):.0f}–{max(self.rates):.0f}",
            f"{statistics.median(self.hub):.0f} / {statistics.median(self.server):.0f}",
        ]


def _write(engine: Engine, options: argparse.Namespace) -> tuple[list[list[str]], dict[str, float]]:
    table, ratios = [], dict[str, float]()
    for frames, size in zip(options.frames, options.bytes, strict=True):
        field = [Turns(name, way, Link(engine, name)) for name, way in _FIELD]
        for turn in range(options.rounds + 1):
            for one in field[turn % 2 :] + field[: turn % 2]:
                one.turn(options.commits if turn else 5, frames, size)
                if not turn:  # to warm up
                    one.rates, one.hub, one.server = [], [], []
        table += [one.row(frames, size) for one in field]
        rate = {(one.shape, one.way): statistics.median(one.rates) for one in field}
        for one in field:
            if (one.shape, one.way) != (_OURS, "arrays"):
                ratio = rate[_OURS, "arrays"] / rate[one.shape, one.way]
                ratios[f"{one.shape}, {one.way}, {frames} frames"] = round(ratio, 2)
        for one in field:
            one.link.connection.close()
    return table, ratios


def _fill(engine: Engine, name: str, options: argparse.Namespace) -> int:
    """Months of small frames; the last number given."""
    link, now = Link(engine, name), months.month_of(_NOW_MS)
    with link.connection.begin():
        link.connection.exec_driver_sql("TRUNCATE log")
        for month in range(now - options.months + 1, now + 1):
            rows = _frames(options.rows, 200, months.first_ms(month) + 1)
            sql.insert(link.connection, tables.log, rows)
        last = link.connection.exec_driver_sql("SELECT max(id) FROM log").scalar_one()
        link.connection.exec_driver_sql("ANALYZE log")
    link.connection.close()
    return int(last)


def _ask(engine: Engine, name: str, options: argparse.Namespace) -> list[list[str]]:
    last, log = _fill(engine, name, options), tables.log
    link = Link(engine, name)
    guided = NextRows(32)

    def unguided(db: Connection, after: int) -> None:
        db.execute(select(log).where(log.c.id > after).order_by(log.c.id).limit(32)).all()

    def one_run(db: Connection, after: int) -> None:
        db.execute(select(log.c.sealed).where(log.c.id == after)).all()

    questions: dict[str, Callable[[Connection, int], object]] = {
        "the next 32 runs, as the projector asks": lambda db, at: guided.after(db, at, _NOW_MS),
        "the next 32 runs, of all months": unguided,
        "one run by its number": one_run,
    }
    table = []
    with link.connection.begin():
        guided.after(link.connection, last - 100, _NOW_MS)
        for what, question in questions.items():
            took = []
            for number in range(options.questions):
                began = time.perf_counter()
                question(link.connection, last - 64 - number)
                took.append(time.perf_counter() - began)
            micros = statistics.median(took) * 1e6
            table.append([f"{what}, {name}", "–", "–", f"{micros:.0f} µs each"])
    link.connection.close()
    return table


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The result as the last line gives it."""
    server = Postgres()
    syncs = []
    try:
        engine = open_engine(server.start().url)
        upgrade(engine)
        now = months.month_of(_NOW_MS)
        span = range(now - options.months + 1, now + months.AHEAD + 1)
        for name in _SHAPES:
            with engine.begin() as db:
                _create(db, name, span)
        syncs.append(syncs_per_second(server.folder))
        began, idle = time.monotonic(), psutil.getloadavg()[0]
        table, ratios = _write(engine, options)
        syncs.append(syncs_per_second(server.folder))
        for name in _SHAPES:
            table += _ask(engine, name, options)
        engine.dispose()
        return {
            "bench": "postgres",
            "machine": machine(server.folder, syncs),
            "what": f"{options.rounds} turns of {options.commits} commits each, medians; load of "
            f"the machine before it {idle:.1f}; the questions over {options.months} months of "
            f"{options.rows} rows; {time.monotonic() - began:.0f} s",
            "table": [["", "frames/s", "range", "CPU µs a frame, hub / server"], *table],
            "ratios": ratios,
            "peers": {},
            "not_measured": [
                "several writers at a time on several disks, which is what parts are for",
                "months of hundreds of gigabytes: vacuum, backup",
            ],
        }
    finally:
        server.remove()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, then the line."""
    found = run(_options(arguments))
    for row in found["table"]:
        print(" | ".join(row))
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
