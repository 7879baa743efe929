"""Faults of every kind at every boundary, on real programs: nothing is lost, doubled or overtaken.

Schedules are made from seeds; a failure names its seed, and the long tests replay it and run as
many others as one likes (docs/faults.md).
"""

import pytest

from support.faults import schedule
from support.fleet_of_faults import fleet
from support.lab_fixtures import needs_root, needs_tool

pytestmark = [needs_root, *(needs_tool(name) for name in ("strace", "storescu"))]

SEEDS = (89, 125, 174)
"""They strike at core, DICOM process, hub, broker, line and upload."""


@pytest.mark.timeout(600)
def test_short_schedules() -> None:
    with fleet() as site:
        for seed in SEEDS:
            site.play(schedule(seed))
        assert site.struck > site.missed
        site.audited()
