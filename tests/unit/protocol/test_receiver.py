"""What a frame adds to a stream, wherever it was cut."""

from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import chain
from lianzhen_protocol.frame import Frame
from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.marks import Position
from lianzhen_protocol.receiver import Accepted, Divergent, Gap, Repeated, receive

RECORDS = tuple(bytes([n]) * 3 for n in range(1, 21))
HASHES = [bytes(32), *chain.walk(bytes(32), RECORDS)]
places = st.integers(0, 20)


def frame(after: int, last: int, before: bytes | None = None) -> Frame:
    """Records after + 1 to last of the one history."""
    begin = HASHES[after] if before is None else before
    return Frame(Epoch(bytes(16)), "record", after + 1, begin, RECORDS[after:last])


@given(places, places, places)
def test_a_frame_cut_anywhere_adds_just_what_is_new(mark: int, after: int, last: int) -> None:
    after, last = sorted((after, last))
    if after == last:
        return
    verdict = receive(Position(mark, HASHES[mark]), frame(after, last))
    if after > mark:
        assert isinstance(verdict, Gap)
    elif last <= mark:
        assert isinstance(verdict, Repeated)
    else:
        assert verdict == Accepted(mark + 1, RECORDS[mark:last], Position(last, HASHES[last]))


@given(places, places, places)
def test_another_history_is_never_taken(mark: int, after: int, last: int) -> None:
    after, last = sorted((after, last))
    if after == last:
        return
    verdict = receive(Position(mark, HASHES[mark]), frame(after, last, b"x" * 32))
    assert not isinstance(verdict, Accepted)
    assert isinstance(verdict, Divergent) == (after <= mark < last)


def test_a_difference_inside_the_overlap_is_seen() -> None:
    twin = (*RECORDS[:5], b"other", *RECORDS[6:10])
    cut = Frame(Epoch(bytes(16)), "record", 4, HASHES[3], twin[3:])
    assert isinstance(receive(Position(7, HASHES[7]), cut), Divergent)
    assert isinstance(receive(Position(5, HASHES[5]), cut), Accepted)


@given(st.lists(st.tuples(places, places), max_size=40))
def test_any_sequence_of_cuts_builds_the_one_history(cuts: list[tuple[int, int]]) -> None:
    mark, log = Position(0, HASHES[0]), list[bytes]()
    for after, last in (*map(sorted, cuts), (0, 20)):
        if after == last:
            continue
        verdict = receive(mark, frame(after, last))
        if isinstance(verdict, Accepted):
            log += verdict.records
            mark = verdict.position
    assert tuple(log) == RECORDS
    assert mark == Position(20, HASHES[20])
