"""Power fails, at thousands of points of many runs: ``--schedules`` runs, ``OUTAGES`` of each."""

import random
import time
from pathlib import Path

import pytest

from support import power
from support.lab_fixtures import needs_tool
from support.power_disk import Outage

pytestmark = needs_tool("strace")

OUTAGES = 200


@pytest.mark.timeout(0)
def test_what_was_promised_is_there_after_any_outage_of_any_run(
    request: pytest.FixtureRequest, tmp_path: Path, seed: int
) -> None:
    runs = request.config.getoption("--schedules")
    seconds, began = request.config.getoption("--seconds"), time.monotonic()
    for run in range(seed, seed + runs):
        folder = tmp_path / str(run)
        folder.mkdir()
        trace = power.record(folder, run, steps=80)
        chance, points = random.Random(run), trace.points()
        wrong = {}
        for _ in range(OUTAGES):
            outage = Outage(chance.choice(points), chance.randrange(1 << 32))
            if found := power.play(trace, outage):
                wrong[outage] = found
        print(f"seed {run}: {len(points)} points, {OUTAGES} outages, {len(wrong)} wrong")
        assert not wrong, f"--seed {run} --schedules 1: {wrong}"
        (folder / "trace").unlink()
        if seconds and time.monotonic() - began > seconds:
            break
