"""Power fails: whatever of the unsynced a disk keeps, what was promised is there, and nothing else.

A harness that finds nothing has to show that it would: the same run, its syncs left out or its
promises made too soon, loses something every time.
"""

import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from support import power
from support.lab_fixtures import needs_tool
from support.power_disk import Outage, Sync, Trace

pytestmark = needs_tool("strace")

SEED = 20_261_124
OUTAGES = 40


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return power.record(tmp_path_factory.mktemp("power"), SEED, steps=60)


def outages(trace: Trace, seed: int) -> Iterator[Outage]:
    chance, points = random.Random(seed), trace.points()
    while True:
        yield Outage(chance.choice(points), chance.randrange(1 << 32))


def test_the_model_of_the_disk_is_the_disk_where_nothing_is_lost(tmp_path: Path) -> None:
    trace = power.record(tmp_path, SEED, steps=15)
    disk = tmp_path / "disk"
    real = {
        str(path.relative_to(disk)): None if path.is_dir() else path.read_bytes()
        for path in disk.rglob("*")
    }
    assert Outage(trace.lines, 0).image(trace.synced()) == real


def test_what_was_promised_is_there_after_any_outage(trace: Trace) -> None:
    for outage in islice(outages(trace, SEED), OUTAGES):
        assert power.play(trace, outage) == "", outage


LEFT_OUT: dict[str, Callable[[Sync], bool]] = {
    "folders": lambda sync: isinstance(sync.target, str),
    "write-ahead log": lambda sync: sync.path.endswith("-wal"),
    "database": lambda sync: sync.path.endswith("journal.db"),
    "segments": lambda sync: sync.path.endswith(".seg"),
    "sealed file": lambda sync: sync.path == "uploads/upload",
    "file before its rename": lambda sync: sync.path.endswith(".new"),
}


def found_out(broken: Trace) -> bool:
    return any(power.play(broken, outage) for outage in islice(outages(broken, SEED), 300))


@pytest.mark.parametrize("what", LEFT_OUT)
def test_a_program_that_leaves_a_sync_out_is_found_out(trace: Trace, what: str) -> None:
    assert found_out(trace.without(LEFT_OUT[what]))


def test_a_program_that_promises_before_its_sync_is_found_out(trace: Trace) -> None:
    assert found_out(trace.hasty(4))
