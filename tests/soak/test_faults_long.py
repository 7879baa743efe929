"""Schedules of faults for as long as somebody has patience, and every boundary for once.

``./do soak tests/soak/test_faults_long.py --schedules 1000`` runs as many; ``--seconds`` ends them
sooner. Seeds follow one another; ``--seed N --schedules 1`` (or ``LIANZHEN_SEED=N``) replays one.
"""

import gc
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice

import pytest

from support.clinic_of_faults import Failure
from support.faults import (
    PASSED,
    Boundary,
    Fault,
    Nothing,
    Schedule,
    Step,
    Work,
    schedule,
    with_database,
)
from support.fleet_of_faults import Fleet, fleet
from support.lab_fixtures import HAS_POSTGRES, needs_root, needs_tool
from support.mortal import WRITES

pytestmark = [needs_root, *(needs_tool(name) for name in ("strace", "storescu"))]

FLEET_LIFE = 40
"""Schedules that one fleet lives through."""

WORK = Work(
    puts=(("alarm.fault", 20, 200), ("record.fault", 200, 200), ("telemetry.fault", 200, 2000)),
    images=2,
    side=400,
    patients=2,
    poison=1,
)


def _name(fault: Fault) -> str:
    words = [type(fault).__name__, getattr(fault, "victim", ""), getattr(fault, "boundary", "")]
    return " ".join(word for word in words if word)


def play(site: Fleet, found: Schedule) -> Failure | None:
    """One schedule; what broke, instead of ending everything."""
    began, missed = time.monotonic(), site.missed
    try:
        site.play(found)
    except Failure as failure:
        print(f"\nseed {found.seed} FAILED: {failure}", flush=True)
        return failure
    kinds = ", ".join("+".join(map(_name, step.faults)) for step in found.steps)
    took = time.monotonic() - began
    print(f"seed {found.seed}: {took:.1f} s, {site.missed - missed} missed: {kinds}", flush=True)
    return None


@pytest.mark.timeout(0)
@pytest.mark.filterwarnings("ignore:.*deleted while still open:ResourceWarning")
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_schedules(request: pytest.FixtureRequest, seed: int, backend: str) -> None:
    """On both databases, one half each."""
    if backend == "postgresql" and not HAS_POSTGRES:
        pytest.skip("PostgreSQL is not installed")
    count = request.config.getoption("--schedules")
    share = (count + 1) // 2 if backend == "sqlite" else count // 2
    first = seed if backend == "sqlite" else seed + (count + 1) // 2
    seconds = request.config.getoption("--seconds") / 2
    failed, done, tally = play_all(
        range(first, first + share), seconds, postgres=backend == "postgresql"
    )
    print(f"{done} schedules on {backend} from seed {first}, {dict(tally)}, failed: {failed}")
    assert not failed


def play_all(
    seeds: range, seconds: float, *, postgres: bool
) -> tuple[list[int], int, Counter[str]]:
    """The seeds that failed, how many were played, and how many faults struck."""
    began, failed, done, tally = time.monotonic(), [], 0, Counter[str]()

    def upcoming() -> Iterator[Schedule]:
        for seed in seeds:
            if seconds and time.monotonic() - began > seconds:
                return
            yield with_database(schedule(seed)) if postgres else schedule(seed)

    schedules = upcoming()
    for first in schedules:
        with fleet(postgres=postgres) as site:
            for found in chain((first,), islice(schedules, FLEET_LIFE - 1)):
                done += 1
                if play(site, found) is not None:
                    failed.append(found.seed)
                    break  # the next ones on a fleet that is whole
            else:
                site.audited()
            tally.update(struck=site.struck, missed=site.missed)
        gc.collect()  # connections to a server that was killed are nobody's, and go here
    return failed, done, tally


@pytest.mark.timeout(0)
def test_every_boundary() -> None:
    """Each is passed by an undisturbed step as often as is said, and then once struck at."""
    with fleet() as site:
        counted = {
            victim: {name: site.slates[victim].passed(f"{name}: before") for name in PASSED[victim]}
            for victim in PASSED
        }
        site.play(Schedule(0, (Step((Nothing(),), WORK),)))
        for victim, names in PASSED.items():
            for name, least in names.items():
                passed = site.slates[victim].passed(f"{name}: before") - counted[victim][name]
                assert passed >= least, f"{victim} passes {name} {passed} times"
        failed = []
        for victim, names in PASSED.items():
            for name in names:
                moments = ("before", "after", *(("half",) if name in WRITES else ()))
                for moment in moments:
                    fault = Boundary(victim, f"{name}: {moment}", 1)
                    if play(site, Schedule(0, (Step((fault,), WORK),))) is not None:
                        failed.append(fault)
        print(f"{site.struck} boundaries struck, {site.missed} missed, failed: {failed}")
        assert not failed
        assert site.missed <= 3  # the one of nothing, and what came to rest too soon to be met
