"""Trying again: for ever, never all at once."""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianzhen_protocol.retry import (
    HURRY_SECONDS,
    SPREAD_SECONDS,
    UNREACHED_CAP_SECONDS,
    Redial,
    backoff,
)

units = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10**9), units, st.floats(0.1, 10), st.floats(10, 1000))
def test_a_wait_stays_within_its_bounds(attempt: int, unit: float, base: float, cap: float) -> None:
    wait = backoff(attempt, unit, base=base, cap=cap)
    assert base / 2 <= wait <= cap


@given(st.integers(0, 100), units)
def test_a_wait_doubles_until_the_cap(attempt: int, unit: float) -> None:
    now, later = backoff(attempt, unit), backoff(attempt + 1, unit)
    assert later in (2 * now, now) or later == backoff(10**6, unit)


def test_the_jitter_is_half_the_wait() -> None:
    assert backoff(3, 0.0) == 4.0
    assert 7.9 < backoff(3, 0.99) < 8.0


WEEK = 7 * 24 * 3600.0
FLEET = 10_000


def tries(redial: Redial, chance: random.Random, end: float, *, reached: bool) -> Iterator[float]:
    """When a box dials a hub that is not there, until ``end``."""
    now = 0.0
    while now < end:
        yield now
        redial.ended(now, chance.random(), reached=reached)
        now = redial.due


@given(st.integers(), st.booleans())
@settings(max_examples=10)
def test_after_a_week_offline_it_still_tries_capped_and_jittered(seed: int, reached: bool) -> None:
    cap = 60.0 if reached else UNREACHED_CAP_SECONDS
    found = list(tries(Redial(), random.Random(seed), WEEK, reached=reached))
    waits = [later - now for now, later in pairwise(found)]
    assert max(waits) <= cap
    assert min(waits[10:]) >= cap / 2
    assert WEEK - found[-1] <= cap
    assert len({round(wait, 3) for wait in waits[10:]}) > 100


@given(st.integers(0, 20), units, st.floats(0, 1e6))
def test_what_worked_forgets_all_that_had_failed(failures: int, unit: float, now: float) -> None:
    redial = Redial()
    for _ in range(failures):
        redial.ended(now, unit, reached=True)
    redial.worked()
    redial.ended(now, unit, reached=True)
    assert now <= redial.due <= now + SPREAD_SECONDS
    redial.ended(now, unit, reached=True)
    assert redial.due <= now + HURRY_SECONDS


@given(st.integers(0, 20), units, st.floats(0, 100))
def test_a_line_that_is_back_is_tried_within_a_second(
    failures: int, unit: float, later: float
) -> None:
    redial = Redial()
    for _ in range(failures):
        redial.ended(0.0, unit, reached=True)
    redial.line_is_back(later, unit)
    assert redial.due <= max(0.0, later) + 1.0


@given(st.lists(st.floats(0, 100), min_size=1), st.booleans())
def test_urgency_hurries_and_does_not_hammer(alarms: list[float], reached: bool) -> None:
    """Alarms by the hundred while the hub is away: a try every two seconds, and no more."""
    redial, chance, found = Redial(), random.Random(0), [0.0]
    redial.ended(0.0, chance.random(), reached=reached)
    for now in sorted(alarms):
        while redial.due <= now:
            found.append(redial.due)
            redial.ended(redial.due, chance.random(), reached=reached)
        redial.hurry()
        assert redial.due <= max(now, found[-1]) + HURRY_SECONDS
    late = [later - now for now, later in pairwise(found[3:])]
    assert all(wait >= HURRY_SECONDS / 2 for wait in late)


@pytest.mark.parametrize("down_s", [0.0, 3.0, 90.0, 600.0])
@pytest.mark.parametrize("reached", [True, False])
def test_a_fleet_that_lost_its_hub_at_one_moment_comes_back_spread(
    down_s: float, reached: bool
) -> None:
    chance = random.Random(f"{down_s} {reached}")
    arrivals = []
    for _ in range(FLEET):
        redial = Redial()
        redial.worked()
        redial.ended(0.0, chance.random(), reached=True)
        while redial.due < down_s:
            redial.ended(redial.due, chance.random(), reached=reached)
        arrivals.append(redial.due - down_s)
    seconds = Counter(int(at) for at in arrivals)
    assert max(seconds.values()) < 0.6 * FLEET
    assert max(arrivals) <= (60.0 if reached else UNREACHED_CAP_SECONDS)
    if down_s >= 90:
        assert max(seconds.values()) < 0.25 * FLEET
