"""A database as one file and back: SQLite's own backup, PostgreSQL's own dump of one snapshot.

Both are of one moment, while the hub goes on writing. ``Snapshot`` is what that moment held: read
from the copy itself (SQLite), or in the very snapshot that the dump was made of (PostgreSQL).
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import make_url

from lianzhen_hub.imaging.unsafe import ImageUnsafe
from lianzhen_hub.ingest.projector import applied_to
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import open_engine
from lianzhen_runtime.errors import LianzhenError, Unavailable

_PROGRAMS: Final = Path("/usr/lib/postgresql")


class BackupFailed(LianzhenError):
    """There is no new backup, and nothing was called safe."""

    code = "backup-failed"
    http_status = 500


class StreamAt(NamedTuple):
    """How far a stream was in, and how far that was safe."""

    node: str
    epoch: bytes
    stream: str
    committed: int
    safe: int


class Snapshot(NamedTuple):
    """What a copy holds."""

    streams: tuple[StreamAt, ...]
    images: frozenset[str]
    """Images whose receipt waits for a backup."""
    records: int
    rows: int
    applied: int
    """Every row of the log up to this one is in it, and was applied."""


def dump(engine: Engine, url: str, file: Path) -> Snapshot:
    """Copy the database to ``file``, durably, and open it again. BackupFailed."""
    try:
        if engine.dialect.name == "postgresql":
            found = _dump_postgresql(engine, url, file)
        else:
            found = _dump_sqlite(Path(str(make_url(url).database)), file)
    except (sqlite3.Error, subprocess.SubprocessError) as error:
        raise BackupFailed(f"the database could not be copied: {error}") from error
    return found


def load(url: str, file: Path) -> None:
    """Make an empty database of a copy; BackupFailed, Unavailable where it is not empty."""
    if make_url(url).get_backend_name() == "postgresql":
        _load_postgresql(url, file)
    else:
        path = Path(str(make_url(url).database))
        if path.exists():
            raise Unavailable(f"{path} exists: move it away before a backup is restored there")
        shutil.copyfile(file, path)
        path.chmod(0o600)
        sync_file(path)


def sync_file(path: Path) -> None:
    """Make what another program wrote durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def snapshot(db: Connection) -> Snapshot:
    """What this transaction sees."""
    mark, sheet = tables.mark.c, tables.sheet.c
    columns = (mark.node, mark.epoch, mark.stream, mark.committed, mark.safe)
    streams = tuple(
        StreamAt(row.node, bytes(row.epoch), row.stream, row.committed, row.safe)
        for row in db.execute(select(*columns))
    )
    waiting = select(sheet.key).where(sheet.kind == ImageUnsafe.SHEET)
    images = frozenset(db.execute(waiting).scalars())
    records, rows = db.execute(
        select(func.sum(tables.log.c.count), func.count(tables.log.c.id))
    ).one()
    return Snapshot(streams, images, int(records or 0), int(rows), applied_to(db))


# -- SQLite


def _dump_sqlite(source: Path, file: Path) -> Snapshot:
    reading = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
    copy = sqlite3.connect(file)
    try:
        reading.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file
    finally:
        copy.close()
        reading.close()
    file.chmod(0o600)
    sync_file(file)
    return verify_sqlite(file)


def verify_sqlite(file: Path) -> Snapshot:
    """Open a copy, let SQLite check all of it, and read what it holds. BackupFailed."""
    checked = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        (verdict,) = checked.execute("PRAGMA integrity_check(1)").fetchone()
    finally:
        checked.close()
    if verdict != "ok":
        raise BackupFailed(f"the copy of the database is damaged: {verdict}")
    engine = create_engine(f"sqlite:///file:{file}?mode=ro&uri=true")
    event.listen(
        engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON")
    )
    try:
        with engine.connect() as db:
            return snapshot(db)
    finally:
        engine.dispose()


# -- PostgreSQL


def _dump_postgresql(engine: Engine, url: str, file: Path) -> Snapshot:
    options = {"isolation_level": "REPEATABLE READ"}
    with engine.connect().execution_options(**options) as db:
        held = snapshot(db)
        name = db.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
        _run(url, "pg_dump", "--format=custom", "--no-owner", "--no-privileges",
             f"--snapshot={name}", f"--file={file}")  # fmt: skip
    file.chmod(0o600)
    sync_file(file)
    verify_postgresql(file)
    return held


def verify_postgresql(file: Path) -> None:
    """Let PostgreSQL's own program read all of a dump; BackupFailed."""
    _run(None, "pg_restore", "--file=/dev/null", str(file))


def _load_postgresql(url: str, file: Path) -> None:
    engine = open_engine(url)
    try:
        with engine.connect() as db:
            count = db.exec_driver_sql(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
            ).scalar_one()
    finally:
        engine.dispose()
    if count:
        raise Unavailable("the database is not empty: make a new one before a backup is restored")
    _run(url, "pg_restore", "--no-owner", "--no-privileges", "--exit-on-error",
         "--single-transaction", str(file))  # fmt: skip


def _run(url: str | None, program: str, *arguments: str) -> None:
    """With ``url``: at that database. Its password goes by the environment: a command line is
    everybody's to read.
    """
    command, environment = [_program(program), *arguments], dict(os.environ)
    if url is not None:
        place = make_url(url).set(drivername="postgresql")
        if place.password is not None:
            environment["PGPASSWORD"] = str(place.password)
        command.append(f"--dbname={place._replace(password=None).render_as_string()}")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BackupFailed(f"{program}: {said}")


def _program(name: str) -> str:
    """The newest one that is installed: pg_dump must not be older than the server."""
    found: Sequence[Path] = sorted(
        _PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3].split(".")[0])
    )
    if found:
        return str(found[-1])
    if (path := shutil.which(name)) is None:
        raise Unavailable(f"{name} is not installed; install the package postgresql-client")
    return path
