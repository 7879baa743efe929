"""kill -9 at a system call, and of the database too: nothing promised is lost or applied twice.

The boundaries that are the programs' own, and mixtures of faults, are test_schedules'.
"""

import gc
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, Program, lab, wait_until
from support.kills import SteadyWriter, broker_pid, kill_postgres, progress, restart, schedule
from support.lab_fixtures import (
    HAS_POSTGRES,
    Pair,
    Writer,
    enrolled_pair,
    needs_root,
    needs_tool,
    settled,
)

SEED = 7


@pytest.mark.filterwarnings("ignore:.*deleted while still open:ResourceWarning")
@pytest.mark.skipif(not HAS_POSTGRES, reason="PostgreSQL is not installed")
def test_a_schedule_of_kills_on_postgresql_and_of_it() -> None:
    with lab() as place:
        postgres = place.postgres()
        pair = enrolled_pair(place, postgres.url)
        with SteadyWriter(pair.box) as writer:
            schedule(pair, SEED, {"database": lambda: kill_postgres(postgres)}, rounds=1)
        progress(pair, len(writer.promised))
        settled(pair.box, pair.ledger, len(writer.promised))
        pair.ledger.check(writer.promised)
        pair.ledger.close()
        gc.collect()  # connections to the server that was killed are nobody's, and go here


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
    [("fdatasync", 5), ("pwrite64", 40)],
)
def test_a_box_that_dies_at_a_system_call(cut: Pair, stream: str, call: str, number: int) -> None:
    writer = Writer(cut.box, 800, stream)
    dies_at(cut.box, call, number)
    arrives(cut, writer)


@needs_tool("strace")
@pytest.mark.parametrize(("call", "number"), [("fdatasync", 4), ("pwrite64", 15)])
def test_a_hub_that_dies_at_a_system_call(cut: Pair, stream: str, call: str, number: int) -> None:
    writer = Writer(cut.box, 800, stream)
    dies_at(cut.hub, call, number)
    arrives(cut, writer)


@needs_root  # to trace what is no child of ours
@needs_tool("strace")
@pytest.mark.parametrize("number", [20])
def test_a_broker_that_dies_at_a_write(cut: Pair, stream: str, number: int) -> None:
    wait_until("a box that is online", cut.box.online)
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
