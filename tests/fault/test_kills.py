"""kill -9 of everything, at any moment: nothing that was promised is lost or applied twice."""

import contextlib
import os
import random
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from lab import BoxProgram, Lab, LabError, Postgres, Program, lab, wait_until
from support.lab_fixtures import (
    HAS_POSTGRES,
    STREAM,
    Pair,
    Writer,
    enrolled_pair,
    needs_root,
    needs_tool,
    online,
    rows,
    settled,
    status,
)

SEEDS = (20260101, 7)


class SteadyWriter:
    """``put --wait``, again and again, until told to stop; what it was promised, in order."""

    def __init__(self, box: BoxProgram, batch: int = 400, stream: str = STREAM) -> None:
        self._box, self._batch, self._stream = box, batch, stream
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: LabError | None = None
        self.promised: list[bytes] = []

    def _run(self) -> None:
        try:
            while not self._enough.is_set():
                self.promised += Writer(self._box, self._batch, self._stream).ids(60)
        except LabError as error:
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._enough.set()
        self._thread.join(90)
        if self._error is not None:
            raise self._error


def broker_pid(pair: Pair) -> int | None:
    """Of the broker that runs just now, if one does."""
    found = rows(pair.hub, "status")
    pid = found["broker_pid"] if isinstance(found, dict) else None
    return int(pid) if pid is not None else None


def kill_broker(pair: Pair) -> None:
    """The hub starts another one."""
    wait_until("a broker", lambda: broker_pid(pair) is not None)
    pid = broker_pid(pair)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid or 0, signal.SIGKILL) if pid else None


def restart(program: Program) -> None:
    """kill -9, and at once the next one."""
    program.kill()
    program.start()


def schedule(pair: Pair, seed: int, extra: dict[str, Callable[[], None]] | None = None) -> None:
    """Three rounds: kill everything in a random order at random moments.

    The box comes last: its next life does not wait out the pauses that the faults earned it.
    """
    chance = random.Random(seed)
    deeds: dict[str, Callable[[], None]] = {
        "box": lambda: restart(pair.box),
        "hub": lambda: restart(pair.hub),
        "broker": lambda: kill_broker(pair),
        **(extra or {}),
    }
    rounds = (chance.sample(list(deeds), len(deeds)) for _ in range(3))
    order = [victim for one in rounds for victim in one]
    began = time.monotonic()
    for number, victim in enumerate([*order, "box"]):
        if chance.random() < 0.6:
            more = max(0, pair.ledger.count()) + chance.randrange(1, 300)
            progress(pair, more)
        else:
            time.sleep(chance.uniform(0, 0.5))  # the schedule itself: also kill what only begins
        print(f"seed {seed}: {time.monotonic() - began:.2f} s, kill {number}: {victim}")
        deeds[victim]()


def progress(pair: Pair, count: int) -> None:
    """Wait until the hub has applied ``count`` records; say how things stand if it does not."""
    try:
        wait_until("progress", lambda: pair.ledger.count() >= count)
    except LabError as error:
        raise LabError(
            f"{error}: {pair.ledger.count()} of {count}; the box says {status(pair.box)}, "
            f"its log {pair.box.tail()}; the hub's log {pair.hub.tail(20)}"
        ) from error


@pytest.mark.parametrize("seed", SEEDS)
def test_a_schedule_of_kills_on_sqlite(seed: int) -> None:
    with lab() as place:
        pair = enrolled_pair(place)
        with SteadyWriter(pair.box) as writer:
            schedule(pair, seed)
        settled(pair.box, pair.ledger, len(writer.promised))
        pair.ledger.check(writer.promised)
        assert len(writer.promised) >= 1000
        pair.ledger.close()


def kill_postgres(postgres: Postgres) -> None:
    """The whole server as a power cut ends it: postmaster and every backend, no checkpoint."""
    children = Path(f"/proc/{postgres.pid}/task/{postgres.pid}/children").read_text().split()
    for pid in (postgres.pid, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(
        "a dead PostgreSQL", lambda: not any(Path("/proc", pid).exists() for pid in children)
    )
    postgres.stop()
    postgres.start()


@pytest.mark.skipif(not HAS_POSTGRES, reason="PostgreSQL is not installed")
def test_a_schedule_of_kills_on_postgresql_and_of_it() -> None:
    with lab() as place:
        postgres = place.postgres()
        pair = enrolled_pair(place, postgres.url)
        with SteadyWriter(pair.box) as writer:
            schedule(pair, SEEDS[0], {"database": lambda: kill_postgres(postgres)})
        settled(pair.box, pair.ledger, len(writer.promised))
        pair.ledger.check(writer.promised)
        pair.ledger.close()


# -- at the boundary of a system call


@pytest.fixture(scope="module")
def cut(place: Lab) -> Iterator[Pair]:
    """A pair for all of these; each test has a stream of its own."""
    pair = enrolled_pair(place)
    yield pair
    pair.ledger.close()


@pytest.fixture
def stream(cut: Pair) -> str:
    """A stream that no other test writes; the box's pauses begin anew."""
    restart(cut.box)
    return f"record.cut-{secrets.token_hex(4)}"


def killed_at(call: str, number: int) -> tuple[str, ...]:
    """The prefix that ends a program as it begins its n-th ``call`` in any one thread."""
    inject = f"{call}:signal=KILL:when={number}"
    return (
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={inject}",
    )


def end_tree(pid: int) -> None:
    """A tracer that is killed lets its tracee go on: end that one first."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    for child in path.read_text().split() if path.exists() else ():
        os.kill(int(child), signal.SIGKILL)


def dies_at(program: Program, call: str, number: int) -> None:
    """Run ``program`` anew until that call; the next life is an ordinary one."""
    program.kill()
    program.prefix = killed_at(call, number)
    try:
        program.start()
        wait_until(f"the {number}. {call}", lambda: not program.running(), 30)
    finally:
        end_tree(program.pid)
        program.kill()
        program.prefix = ()
        program.start()


@needs_tool("strace")
@pytest.mark.parametrize(
    ("call", "number"),
    [("fdatasync", 2), ("fdatasync", 5), ("pwrite64", 9), ("pwrite64", 40), ("write", 12)],
)
def test_a_box_that_dies_at_a_system_call(cut: Pair, stream: str, call: str, number: int) -> None:
    writer = Writer(cut.box, 800, stream)
    dies_at(cut.box, call, number)
    arrives(cut, writer)


@needs_tool("strace")
@pytest.mark.parametrize(
    ("call", "number"), [("fdatasync", 2), ("fdatasync", 4), ("pwrite64", 15), ("pwrite64", 60)]
)
def test_a_hub_that_dies_at_a_system_call(cut: Pair, stream: str, call: str, number: int) -> None:
    writer = Writer(cut.box, 800, stream)
    dies_at(cut.hub, call, number)
    arrives(cut, writer)


@needs_root  # to trace what is no child of ours
@needs_tool("strace")
@pytest.mark.parametrize("number", [3, 20])
def test_a_broker_that_dies_at_a_write(cut: Pair, stream: str, number: int) -> None:
    wait_until("a box that is online", lambda: online(cut.box))
    pid = broker_pid(cut)
    tracer = subprocess.Popen([*killed_at("write", number), "-p", str(pid)])
    writer = Writer(cut.box, 2000, stream)
    tracer.wait(30)
    arrives(cut, writer)
    assert broker_pid(cut) != pid


def arrives(pair: Pair, writer: Writer) -> None:
    """What the writer was promised is at the hub, once, in order."""
    promised = writer.ids()
    settled(pair.box, pair.ledger, len(promised), writer.stream)
    pair.ledger.check(promised, writer.stream)
