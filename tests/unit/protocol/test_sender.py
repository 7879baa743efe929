"""The writing half: what goes next, what an answer means, and when to go back."""

from collections.abc import Sequence

import pytest

from lianzhen_protocol import chain
from lianzhen_protocol.frame import MAX_RECORDS, TARGET_PLAIN_BYTES
from lianzhen_protocol.lanes import Lane
from lianzhen_protocol.marks import ForkReason, Position, StreamMark
from lianzhen_protocol.sender import (
    FIRST_FRAME_BYTES,
    FIRST_WINDOW_BYTES,
    FRAME_SECONDS,
    MIN_FRAME_BYTES,
    RTO_MAX,
    RTO_MIN,
    Advanced,
    Cut,
    Forked,
    Outgoing,
    Sender,
)

HASHES = [bytes(32), *chain.walk(bytes(32), (bytes([n % 256]) for n in range(5000)))]
CREDIT = 1 << 20


class Journal:
    """A writer's hashes: each stream has the same history."""

    def __init__(self, safe: int = 0, last: int = 5000) -> None:
        self.safe, self.last = safe, last

    def hash_at(self, stream: str, seq: int) -> bytes | None:
        """HashLookup."""
        return HASHES[seq] if self.safe <= seq <= self.last else None


def stream(last: int, committed: int = 0, safe: int = 0, name: str = "record") -> Outgoing:
    """A stream as the journal has it."""
    return Outgoing(name, Lane.RECORD, last, committed, safe, committed)


def mark(seq: int, safe: int = 0, *, gap: bool = False, name: str = "record") -> StreamMark:
    """A receiver's honest mark."""
    return StreamMark(name, Position(seq, HASHES[seq]), safe, gap)


def welcomed(*streams: Outgoing, marks: Sequence[StreamMark] = (), safe: int = 0) -> Sender:
    """A sender just after the welcome, at time 0."""
    sender = Sender(Journal(safe))
    sender.load(streams)
    sender.welcome(marks, CREDIT, 0.0)
    return sender


def send(sender: Sender, count: int, size: int, now: float) -> Cut:
    """Send the next frame."""
    cut = sender.cut()
    assert cut is not None
    sender.sent(cut, count, size, now)
    return cut


def test_nothing_is_sent_before_the_welcome() -> None:
    sender = Sender(Journal())
    sender.load([stream(5)])
    sender.appended(stream(3, name="alarm"))
    assert sender.cut() is None
    sender.welcome([mark(0)], CREDIT, 0.0)
    assert {send(sender, 9, 100, 0.0).stream for _ in range(2)} == {"record", "alarm"}


def test_it_goes_on_after_the_receivers_mark() -> None:
    sender = welcomed(stream(9, committed=2), marks=[mark(6)])
    assert send(sender, 3, 100, 0.0) == Cut("record", Lane.RECORD, 7, 3, FIRST_FRAME_BYTES)
    assert sender.cut() is None


def test_it_goes_back_to_a_receiver_that_was_restored() -> None:
    sender = Sender(Journal(safe=3))
    sender.load([stream(9, committed=8, safe=3)])
    assert sender.welcome([mark(5)], CREDIT, 0.0) == [Advanced("record", 5, 3)]
    assert send(sender, 4, 100, 0.0).first == 6


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (Position(10, HASHES[10]), ForkReason.RECEIVER_AHEAD),
        (Position(5, b"x" * 32), ForkReason.HISTORIES_DIFFER),
        (Position(2, HASHES[2]), ForkReason.RECEIVER_BEHIND_SAFE),
    ],
)
def test_it_forks_and_sends_nothing_more(theirs: Position, reason: ForkReason) -> None:
    sender = Sender(Journal(safe=3))
    sender.load([stream(9, committed=4, safe=3)])
    found = sender.welcome([StreamMark("record", theirs, 0)], CREDIT, 0.0)
    assert found == [Forked("record", reason, theirs)]
    assert sender.cut() is None


def test_an_acknowledgement_is_believed_only_with_our_hash() -> None:
    sender = welcomed(stream(9))
    send(sender, 9, 900, 0.0)
    forged = StreamMark("record", Position(9, b"x" * 32), 9)
    (found,) = sender.ack([forged], CREDIT, 0.1)
    assert isinstance(found, Forked)
    assert sender.in_flight == 900


def test_safe_never_passes_committed_and_never_goes_back() -> None:
    sender = welcomed(stream(9), marks=[mark(0)])
    assert sender.ack([mark(5, 9)], CREDIT, 0.1) == [Advanced("record", 5, 5)]
    assert sender.ack([mark(6, 2)], CREDIT, 0.2) == [Advanced("record", 6, 5)]


def test_an_old_acknowledgement_changes_nothing() -> None:
    sender = welcomed(stream(9), marks=[mark(0)])
    sender.ack([mark(7)], CREDIT, 0.1)
    assert sender.ack([mark(3, gap=True), mark(7), mark(1, name="other")], CREDIT, 0.2) == []


def test_a_stream_that_joins_learns_that_the_receiver_is_behind() -> None:
    sender = welcomed(safe=2)
    sender.appended(stream(9, committed=8, safe=2))
    assert send(sender, 1, 100, 0.0).first == 9
    assert sender.ack([mark(4, gap=True)], CREDIT, 0.1) == [Advanced("record", 4, 2)]
    assert send(sender, 5, 500, 0.1).first == 5


def test_a_stream_that_joins_learns_that_the_receiver_lost_safe_records() -> None:
    sender = welcomed(safe=8)
    sender.appended(stream(9, committed=8, safe=8))
    send(sender, 1, 100, 0.0)
    (found,) = sender.ack([mark(4, gap=True)], CREDIT, 0.1)
    assert isinstance(found, Forked)
    assert found.reason is ForkReason.RECEIVER_BEHIND_SAFE


def test_a_gap_is_answered_once_by_going_back() -> None:
    sender = welcomed(stream(40), marks=[mark(0)])
    for _ in range(4):
        send(sender, 10, 1000, 0.0)
    assert sender.ack([mark(10, gap=True)], CREDIT, 0.1) == [Advanced("record", 10, 0)]
    assert send(sender, 10, 1000, 0.1).first == 11
    sender.ack([mark(10, gap=True)], CREDIT, 0.2)
    assert send(sender, 10, 1000, 0.2).first == 21
    sender.ack([mark(10, gap=True)], CREDIT, 0.1 + sender.timeout)
    assert send(sender, 10, 1000, 2.2).first == 11


def test_the_window_closes_and_an_acknowledgement_opens_it() -> None:
    sender = welcomed(stream(500), marks=[mark(0)])
    frames = 0
    while sender.cut():
        send(sender, 1, FIRST_FRAME_BYTES, 0.0)
        frames += 1
    assert frames == FIRST_WINDOW_BYTES // FIRST_FRAME_BYTES
    sender.ack([mark(frames)], CREDIT, 1.0)
    assert sender.cut() is not None


def test_credit_narrows_the_window_and_never_closes_it_for_good() -> None:
    sender = welcomed(stream(500), marks=[mark(0)])
    sender.ack([], 0, 0.0)
    assert sender.window == MIN_FRAME_BYTES
    send(sender, 1, MIN_FRAME_BYTES, 0.0)
    assert sender.cut() is None


def test_a_time_out_sends_all_again_and_doubles_up_to_a_cap() -> None:
    sender = welcomed(stream(30), marks=[mark(0)])
    now, waits = 0.0, list[float]()
    for _ in range(12):
        assert send(sender, 10, 100, now).first == 1
        waits.append(sender.timeout)
        assert sender.deadline == now + sender.timeout
        assert not sender.tick(now + sender.timeout - 0.001)
        now += sender.timeout
        assert sender.tick(now)
        assert sender.in_flight == 0
    assert waits[:4] == [RTO_MIN, 2 * RTO_MIN, 4 * RTO_MIN, 8 * RTO_MIN]
    assert waits[-1] == RTO_MAX
    send(sender, 10, 100, now)
    sender.ack([mark(10)], CREDIT, now + 0.1)
    assert sender.timeout == RTO_MIN


def test_a_frame_is_cut_to_a_tenth_of_a_second_of_the_measured_rate() -> None:
    sender = welcomed(stream(5000), marks=[mark(0)])
    rate, seq, now = 400_000, 0, 0.0
    for _ in range(20):
        send(sender, 10, 40_000, now)
        now, seq = now + 40_000 / rate, seq + 10
        sender.ack([mark(seq)], CREDIT, now)
    assert sender.frame_bytes == pytest.approx(rate * FRAME_SECONDS, rel=0.01)
    assert sender.round_trip == pytest.approx(0.1)


def test_a_frame_stays_within_its_bounds_on_the_slowest_and_the_fastest_line() -> None:
    for elapsed, expected in ((1000.0, MIN_FRAME_BYTES), (0.0, TARGET_PLAIN_BYTES)):
        sender = welcomed(stream(500), marks=[mark(0)])
        send(sender, 10, 10_000, 0.0)
        sender.ack([mark(10)], CREDIT, elapsed)
        assert sender.frame_bytes == expected
        cut = sender.cut()
        assert cut is not None
        assert cut.max_records == MAX_RECORDS


def test_streams_of_one_lane_take_turns() -> None:
    names = [f"record.{n}" for n in range(3)]
    streams = [stream(9, name=name) for name in names]
    sender = welcomed(*streams, marks=[mark(0, name=name) for name in names])
    order = [send(sender, 3, 100, 0.0).stream for _ in range(9)]
    assert order == names * 3
    assert sender.cut() is None


def test_an_answer_between_cut_and_sent_moves_nothing_back() -> None:
    sender = welcomed(stream(40), marks=[mark(0)])
    send(sender, 10, 1000, 0.0)
    cut = sender.cut()
    assert cut is not None
    sender.ack([mark(0, gap=True)], CREDIT, 0.1)
    sender.sent(cut, 10, 1000, 0.1)
    assert sender.in_flight == 0
    assert send(sender, 10, 1000, 0.1).first == 1
    cut = sender.cut()
    assert cut is not None
    sender.ack([mark(15)], CREDIT, 0.2)
    sender.sent(cut, 10, 1000, 0.2)
    assert send(sender, 10, 1000, 0.2).first == 16
