"""Hostile callers for as long as somebody has patience, four at a time, on a disk that fails.

``./do soak tests/soak/test_dicom_fuzz_long.py --schedules 1000`` has a hundred thousand
conversations; ``--seconds`` ends them sooner, ``--seed N`` begins where chance began.
"""

import gc
import logging
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import wait_until
from lianzhen_edge.dicom.association import Limits
from support.dicom_fuzz import conversation, descriptors, kept_uids, memory_mb, talk
from support.upper_layer import Scp, running

EACH = 100
"""Conversations of a schedule."""
GROWTH_MB = 24
"""Of this process, which is the caller and the test too."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Scp]:
    with running(tmp_path, limits=Limits(artim=1, idle=4, stall=1, grace=4)) as found:
        yield found


def test_hostile_callers_for_long(
    node: Scp, seed: int, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    schedules = request.config.getoption("--schedules")
    until = time.monotonic() + (request.config.getoption("--seconds") or 1e9)
    print(f"the first seed is {seed}")
    _run(node, seed)
    before = descriptors(), threading.active_count(), memory_mb()
    for number in range(1, schedules):
        _run(node, seed + number)
        if time.monotonic() > until:
            break
    gc.collect()
    wait_until("threads have ended", lambda: threading.active_count() <= before[1])
    assert descriptors() <= before[0] + 1
    assert memory_mb() <= before[2] + GROWTH_MB
    assert not list(node.folder.glob(".*"))
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def _run(node: Scp, seed: int) -> None:
    """One schedule: in a third of them the disk is full or fails."""
    luck = random.Random(seed)
    fault = OSError(luck.choice((5, 28)), "as it may be")
    if luck.random() < 1 / 6:
        node.disk.write_error = fault
    elif luck.random() < 1 / 6:
        node.disk.sync_error = fault

    def one(number: int) -> list[str]:
        return talk(node, conversation(random.Random(f"{seed}/{number}")))

    with ThreadPoolExecutor(4) as callers:
        stored = {uid for each in callers.map(one, range(EACH)) for uid in each}
    node.disk.write_error = node.disk.sync_error = None
    assert stored <= kept_uids(node), f"Success for what is not here: seed {seed}"
    wait_until("all have gone", lambda: node.server.connections == 0)
    for path in sorted(node.folder.glob("*.seg"))[:-1]:
        path.unlink()
