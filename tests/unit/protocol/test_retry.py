"""Trying again: for ever, never all at once."""

from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol.retry import backoff

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
