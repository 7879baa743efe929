"""The simulator for as long as somebody has patience: new, longer schedules on every run.

``LIANZHEN_SIMULATOR_EXAMPLES`` says how many. They come in runs of their own, since Hypothesis
remembers all of one run.
"""

import os

import pytest
from hypothesis.stateful import run_state_machine_as_test

from support.simulator_rules import Schedule, profile

EXAMPLES = int(os.environ.get("LIANZHEN_SIMULATOR_EXAMPLES", "2000"))
_AT_A_TIME = 200


@pytest.mark.timeout(0)
@pytest.mark.parametrize("run", range(max(1, EXAMPLES // _AT_A_TIME)))
def test_no_long_schedule_loses_repeats_reorders_or_blocks_a_record(run: int) -> None:
    run_state_machine_as_test(Schedule, settings=profile(_AT_A_TIME, steps=100, by_chance=True))
