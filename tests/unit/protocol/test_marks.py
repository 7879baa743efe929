"""Two histories compared: go on, or leave the epoch, and for which reason."""

from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import chain
from lianzhen_protocol.marks import Diverged, ForkReason, HashAt, Position, Resume, reconcile

HASHES = [bytes(32), *chain.walk(bytes(32), (bytes([n]) for n in range(20)))]


def journal(safe: int, last: int) -> HashAt:
    """A writer that has written ``last`` and deleted ``safe`` records."""
    return lambda seq: HASHES[seq] if safe <= seq <= last else None


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_one_history_goes_on_wherever_the_writer_still_remembers(
    safe: int, committed: int, last: int
) -> None:
    safe, committed, last = sorted((safe, committed, last))
    found = reconcile(last, safe, Position(committed, HASHES[committed]), journal(safe, last))
    assert found == Resume(committed)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_another_hash_is_another_history(safe: int, committed: int, last: int) -> None:
    safe, committed, last = sorted((safe, committed, last))
    found = reconcile(last, safe, Position(committed, b"x" * 32), journal(safe, last))
    assert found == Diverged(ForkReason.HISTORIES_DIFFER)


@given(st.integers(0, 19), st.integers(1, 100))
def test_a_receiver_ahead_is_a_restored_card(last: int, ahead: int) -> None:
    theirs = Position(last + ahead, b"x" * 32)
    assert reconcile(last, 0, theirs, journal(0, last)) == Diverged(ForkReason.RECEIVER_AHEAD)


@given(st.integers(1, 20), st.integers(0, 19))
def test_a_receiver_behind_what_was_deleted_has_lost_it(safe: int, committed: int) -> None:
    committed %= safe
    found = reconcile(20, safe, Position(committed, HASHES[committed]), journal(safe, 20))
    assert found == Diverged(ForkReason.RECEIVER_BEHIND_SAFE)
