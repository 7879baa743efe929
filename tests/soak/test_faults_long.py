"""Kills for as long as somebody has patience, by seeds that are new on every run.

``LIANZHEN_FAULT_RUNS`` says how many schedules, ``LIANZHEN_FAULT_SEED`` where they begin: a run
that failed prints its seed and is repeated with it.
"""

import os
import secrets

import pytest

from lab import lab
from support.kills import SteadyWriter, kill_postgres, progress, schedule
from support.lab_fixtures import HAS_POSTGRES, enrolled_pair, settled

RUNS = int(os.environ.get("LIANZHEN_FAULT_RUNS", "4"))
SEED = int(os.environ.get("LIANZHEN_FAULT_SEED") or secrets.randbelow(1 << 32))
ROUNDS = 8


@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
@pytest.mark.parametrize("run", range(RUNS))
def test_no_long_schedule_of_kills_loses_or_doubles_a_record(run: int, backend: str) -> None:
    seed = SEED + run
    print(f"seed {seed}, on {backend}")
    if backend == "postgresql" and not HAS_POSTGRES:
        pytest.skip("PostgreSQL is not installed")
    with lab() as place:
        postgres = place.postgres() if backend == "postgresql" else None
        pair = enrolled_pair(place, postgres.url if postgres else None)
        extra = {"database": lambda: kill_postgres(postgres)} if postgres else None
        with SteadyWriter(pair.box) as writer:
            schedule(pair, seed, extra, ROUNDS)
        progress(pair, len(writer.promised))
        settled(pair.box, pair.ledger, len(writer.promised))
        pair.ledger.check(writer.promised)
        pair.ledger.close()
