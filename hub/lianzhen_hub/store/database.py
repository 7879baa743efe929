"""The door to the database: one writer thread with whole transactions, and readers beside it.

Everything durable at the hub goes through ``Database.write``: when it returns, the work is
committed and synced; when it raises, nothing of it happened.
"""

import asyncio
import contextlib
import itertools
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from lianzhen_runtime.errors import ConfigError, Unavailable
from lianzhen_runtime.log import Log
from lianzhen_runtime.retry import pause

from . import months

Result = TypeVar("Result")

_MIGRATIONS = Path(__file__).parent / "migrations"
_AWAY_CAP_SECONDS = 5.0
_CONNECT_SECONDS = 10
_HOPELESS = ("does not exist", "authentication failed", "no password supplied", "pg_hba.conf")
"""What a server says, in English, to whom it will never let in; it gives no code at a connect."""

_log = Log("lianzhen.database")


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
        limits = {"connect_timeout": _CONNECT_SECONDS}
        engine = create_engine(address, pool_pre_ping=True, connect_args=limits)
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


def _away(error: Exception) -> bool:
    """Whether the server is not there, or not yet: a SQLite file never is."""
    orig = getattr(error, "orig", None)
    if not isinstance(error, OperationalError) or isinstance(orig, sqlite3.Error):
        return False
    return not any(words in str(orig) for words in _HOPELESS)


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", error)).split())


class Database:
    """Transactions off the event loop: writes one after another, reads at any time."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self.backend = self.engine.dialect.name
        self.away = False
        """True while a start waits for the server."""
        self._undo: list[Callable[[], None]] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="db-write")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="db-read")

    async def __aenter__(self) -> Self:
        await self.patiently(self._open)
        return self

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, upgrade, self.engine)
        except Exception as error:
            if _away(error):
                raise
            raise Unavailable(f"the database does not open: {_said(error)}") from error

    async def patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do at a start what needs the database: while its server is away, wait for it and say so.

        Unavailable for what waiting does not mend; ``work`` may be done more than once.
        """
        self.away = False
        for attempt in itertools.count():
            try:
                await work()
            except OperationalError as error:
                if not _away(error):
                    raise Unavailable(f"the database does not work: {_said(error)}") from error
                self.away = True
                _log.transition("database", "is away, will retry", bad=True)
                await asyncio.sleep(pause(attempt, base=0.25, cap=_AWAY_CAP_SECONDS))
            else:
                break
        if self.away:
            self.away = False
            _log.transition("database", "is there")

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
