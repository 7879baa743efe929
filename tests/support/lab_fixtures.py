"""Labs of real programs for the tests, and the two ledgers that a fault test compares.

``Written`` is what a box promised to keep, in its order; ``HubLedger`` reads what the hub made of
it, from its tables and not from its own word.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import OperationalError

from lab import Answer, BoxProgram, HubProgram, Lab, LabError, Postgres, ask, lab, peek, wait_until
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store import tables
from lianzhen_hub.store.database import Database, open_engine, sqlite_url
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol import kinds
from lianzhen_protocol.identity import RecordId, uuid7
from lianzhen_protocol.records import DiagnosticNote
from lianzhen_runtime.keys import FileKeys

STREAM = "record.diagnostic"
HAS_POSTGRES = bool(list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))
AS_ROOT = os.geteuid() == 0

needs_root = pytest.mark.skipif(not AS_ROOT, reason="mounts a file system: needs root")


def needs_tool(name: str) -> pytest.MarkDecorator:
    """Skip where a tool of the system is not installed."""
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


# -- what a box is asked


class Note(NamedTuple):
    """A record as it is put: its id and its bytes."""

    id: RecordId
    entry: bytes


def note(text: str = "all is well") -> Note:
    """A fresh diagnostic record."""
    now_ms = time.time_ns() // 1_000_000
    identity = uuid7(now_ms, secrets.token_bytes(10))
    return Note(identity, kinds.encode(DiagnosticNote(text=text), identity, now_ms))


def notes(count: int, text: str = "all is well") -> list[Note]:
    """``count`` of them."""
    return [note(text) for _ in range(count)]


def put(box: BoxProgram, entries: Sequence[bytes], stream: str = STREAM) -> Answer:
    """Ask a box to keep records, as a program on the box does."""
    target = f"/records?stream={stream}"
    return ask(box.state / "control.sock", "POST", target, msgspec.msgpack.encode(list(entries)))


def put_all(box: BoxProgram, found: Sequence[Note], stream: str = STREAM) -> list[bytes]:
    """The same, and it must succeed; the ids."""
    answer = put(box, [each.entry for each in found], stream)
    assert answer.status == 201, answer.body
    return [each.id for each in found]


def item(box: BoxProgram, identity: bytes) -> Any:
    """What a box says became of a record."""
    return ask(box.state / "control.sock", "GET", f"/items/{identity.hex()}").body


def rows(hub: HubProgram, view: str) -> list[Any]:
    """One of the hub's lists (streams, notices, quarantine, nodes); empty while it is away."""
    return peek(hub.state / "admin.sock", f"/{view}") or []


class Writer:
    """``put --wait`` in a process of its own: what it was told is stored counts as promised."""

    def __init__(self, box: BoxProgram, count: int, stream: str = STREAM) -> None:
        verb = ("put", "x" * 200, "--count", str(count), "--wait", "--ids", "--stream", stream)
        self.stream, self._box = stream, box
        self._process = subprocess.Popen(
            box.command(*verb), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ended(self) -> bool:
        """Whether all of it was promised."""
        return self._process.poll() is not None

    def ids(self, seconds: float = 60.0) -> list[bytes]:
        """Wait for the end; the ids in the order in which they were written."""
        try:
            out, complaint = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.communicate()
            raise LabError(
                f"put --wait does not end within {seconds:.0f} s; the box's log: {self._box.tail()}"
            ) from error
        if self._process.returncode != 0:
            raise LabError(f"put --wait failed: {complaint}")
        return [bytes.fromhex(line) for line in out.splitlines()[:-1]]


# -- what the hub has


class HubLedger:
    """A hub's tables, read directly."""

    def __init__(self, hub: HubProgram, database: str | None = None) -> None:
        self._engine: Engine = open_engine(database or sqlite_url(hub.state / "hub.db"))

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _reading(self) -> Connection:
        return self._engine.connect().execution_options(reader=True)

    def ids(self, stream: str = STREAM, node: str | None = None) -> list[bytes]:
        """Applied records in the order of the log."""
        table = tables.record.c
        query = select(table.id).where(table.stream == stream)
        if node is not None:
            query = query.where(table.node == node)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.log_id, table.seq))
            return [bytes(row.id) for row in rows]

    def count(self, stream: str = STREAM) -> int:
        """How many of them; -1 while the database does not answer."""
        query = select(func.count()).where(tables.record.c.stream == stream)
        try:
            with self._reading() as connection:
                return int(connection.execute(query).scalar_one())
        except OperationalError:
            return -1

    def received_ms(self, identity: bytes) -> int:
        """When a record came, by the hub's clock."""
        query = select(tables.record.c.received_ms).where(tables.record.c.id == identity)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def logged(self, stream: str = STREAM) -> int:
        """Records in the raw log, where a repetition would show before anything hides it."""
        table = tables.log.c
        with self._reading() as connection:
            query = select(func.sum(table.count)).where(table.stream == stream)
            return int(connection.execute(query).scalar() or 0)

    def places(self, stream: str = STREAM) -> list[tuple[bytes, int]]:
        """(epoch, seq) of applied records in the order of the log."""
        table = tables.record.c
        query = select(table.epoch, table.seq).where(table.stream == stream)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.log_id, table.seq))
            return [(bytes(row.epoch), row.seq) for row in rows]

    def check(self, promised: Sequence[bytes], stream: str = STREAM) -> None:
        """All that was promised is there, each once, in the order of its stream, and no more."""
        found = self.ids(stream)
        twice = [key.hex() for key, times in Counter(found).items() if times > 1]
        assert not twice, f"applied twice: {twice[:5]}"
        lost = set(promised) - set(found)
        assert not lost, f"{len(lost)} of {len(promised)} lost, e.g. {next(iter(lost)).hex()}"
        assert found == list(promised), "not in the order in which they were written"
        assert self.logged(stream) == len(promised), "a record lies in the log twice"
        assert [seq for _, seq in self.places(stream)] == list(range(1, len(promised) + 1))


@contextmanager
def hub_sheets(hub: HubProgram) -> Iterator[HubSheets]:
    """The sheets in a hub's SQLite, opened with its own keys."""
    database = Database(sqlite_url(hub.state / "hub.db"))
    try:
        with database.engine.connect().execution_options(reader=True) as connection:
            yield HubSheets(connection, Vault(FileKeys(hub.state / "keys"), database))
    finally:
        database.engine.dispose()


def settled(box: BoxProgram, ledger: HubLedger, count: int, stream: str = STREAM) -> None:
    """Wait until the box is drained and the hub has applied ``count`` records of a stream."""
    wait_until(f"{count} records applied", lambda: ledger.count(stream) >= count)
    wait_until("a drained box", box.drained)


# -- fixtures


class Pair(NamedTuple):
    """A running hub, a box that is enrolled there, and the hub's tables."""

    hub: HubProgram
    box: BoxProgram
    node: str
    ledger: HubLedger


@pytest.fixture(scope="module")
def place() -> Iterator[Lab]:
    """A lab whose programs end with the module."""
    with lab() as made:
        yield made


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; each module empties it first."""
    if not HAS_POSTGRES:
        pytest.skip("PostgreSQL is not installed")
    made = Postgres().start()
    yield made
    made.remove()


def dial(box: BoxProgram, port: int) -> None:
    """Let an enrolled box find its broker at another port."""
    for path in Path(box.state, "identity").glob("*/identity.json"):
        about = json.loads(path.read_bytes())
        path.write_text(json.dumps(about | {"mqtt_port": port}))


def enrolled_pair(place: Lab, database: str | None = None, **settings: object) -> Pair:
    """A hub and a box of its own in ``place``, both running and acquainted."""
    hub = place.hub(database=database).start().wait()
    box = place.box("BOX-1", **settings).start()
    return Pair(hub, box, box.enrol(hub), HubLedger(hub, database))


@pytest.fixture(scope="module")
def sqlite_pair(place: Lab) -> Iterator[Pair]:
    """A pair on SQLite."""
    pair = enrolled_pair(place)
    yield pair
    pair.ledger.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A pair on each of the two databases."""
    database = None
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        postgres.empty()
        database = postgres.url
    with lab() as made:
        found = enrolled_pair(made, database)
        yield found
        found.ledger.close()
