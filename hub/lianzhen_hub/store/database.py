"""The door to the database: one writer thread with whole transactions, and readers beside it.

Everything durable at the hub goes through ``Database.write``: when it returns, the work is
committed and synced; when it raises, nothing of it happened.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from lianzhen_runtime.errors import ConfigError, Unavailable

from . import months

Result = TypeVar("Result")

_MIGRATIONS = Path(__file__).parent / "migrations"


def sqlite_url(path: Path) -> str:
    """The address of a SQLite file."""
    return f"sqlite:///{path}"


def open_engine(url: str) -> Engine:
    """An engine whose commits are synced before they return, for both databases."""
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError as error:
        raise ConfigError("database: not an address like postgresql://host/name") from error
    if backend == "sqlite":
        engine = create_engine(url, connect_args={"timeout": 30.0, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    if backend == "postgresql":
        address = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(address, pool_pre_ping=True)
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    raise ConfigError(f"database {backend}: only sqlite and postgresql are supported")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are ours, see _begin_immediate
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_immediate(connection: Connection) -> None:
    mode = "DEFERRED" if connection.get_execution_options().get("reader") else "IMMEDIATE"
    connection.exec_driver_sql(f"BEGIN {mode}")


def _prepare_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        # A server-wide "off" would turn every acknowledgement into a guess.
        cursor.execute("SET synchronous_commit = on")
    connection.commit()


def upgrade(engine: Engine) -> None:
    """Bring the tables to this release; migrations only ever add, and move what they part."""
    if revision(engine) != newest_revision():
        _migrate(engine)
    # Where somebody holds the tables just now, the hub's upkeep does it later.
    with contextlib.suppress(OperationalError), engine.begin() as connection:
        months.keep_ahead(connection, time.time_ns() // 1_000_000)


def revision(engine: Engine) -> str | None:
    """Which migration the tables are at; None before the first."""
    with engine.connect().execution_options(reader=True) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def newest_revision() -> str:
    """The last one of this release, by the names of the files: ``m0001_first.py`` is 0001."""
    return max(path.name[1:5] for path in (_MIGRATIONS / "versions").glob("m*.py"))


def _migrate(engine: Engine) -> None:
    from alembic import command  # a start with nothing to migrate does without it
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


class Database:
    """Transactions off the event loop: writes one after another, reads at any time."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self.backend = self.engine.dialect.name
        self._undo: list[Callable[[], None]] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="db-write")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="db-read")

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, upgrade, self.engine)
        except Exception as error:
            said = " ".join(str(getattr(error, "orig", error)).split())
            raise Unavailable(f"the database does not open: {said}") from error
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self.engine.dispose()

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one transaction on the writer's thread; durable when this returns.

        A cancelled caller does not undo a transaction that has begun: it ends either way.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writer, self.write_here, work)

    def write_here(self, work: Callable[[Connection], Result]) -> Result:
        """``write`` on the calling thread, for a program with no loop."""
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except BaseException:
            for forget in self._undo:
                forget()
            raise

    def on_rollback(self, forget: Callable[[], None]) -> None:
        """Call ``forget`` after a write that did not happen: for what is cached beside it."""
        self._undo.append(forget)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` on a snapshot; what it writes is rolled back."""

        def reading() -> Result:
            options: dict[str, object] = {"reader": True}
            if self.backend == "postgresql":  # its default is a snapshot for each statement
                options["isolation_level"] = "REPEATABLE READ"
            with self.engine.connect().execution_options(**options) as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, reading)
