"""What is in flight is bounded by time: a sender over a simulated line with a clock of its own."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from lianzhen_protocol.lanes import Lane
from lianzhen_protocol.marks import Position, StreamMark
from lianzhen_protocol.sender import (
    FIRST_FRAME_BYTES,
    FIRST_WINDOW_BYTES,
    FRAME_SECONDS,
    MIN_FRAME_BYTES,
    PROBE_SECONDS,
    QUEUE_SECONDS,
    Outgoing,
    Sender,
)

RECORD = 1000
CREDIT = 1 << 30
LAST = 1 << 40
rates = st.sampled_from([8_000, 62_500, 1_000_000])
trips = st.sampled_from([0.002, 0.05, 0.3, 1.0])


class Journal:
    """A history whose hashes are its numbers."""

    def hash_at(self, stream: str, seq: int) -> bytes:
        """HashLookup."""
        del stream
        return seq.to_bytes(32, "big")


class Line:
    """A link of ``rate`` (bytes/s) with a queue that never drops, and ``trip`` seconds around."""

    def __init__(self, rate: float, trip: float, last: int = LAST) -> None:
        self.rate, self.trip = rate, trip
        self.sender = Sender(Journal())
        self.sender.load([Outgoing("record", Lane.RECORD, last, 0, 0, 0)])
        self.sender.welcome([], CREDIT, 0.0)
        self.now = self._free_at = 0.0
        self._answers: deque[tuple[float, int]] = deque()
        self.carried, self.worst_s = 0, 0.0

    def run(self, seconds: float) -> None:
        """Go on for so long, or until nothing more is to be sent."""
        end, self.carried, self.worst_s = self.now + seconds, 0, 0.0
        while self.now < end:
            while cut := self.sender.cut():
                count = min(cut.max_records, max(1, cut.max_bytes // RECORD))
                self.sender.sent(cut, count, count * RECORD, self.now)
                self._free_at = max(self._free_at, self.now) + count * RECORD / self.rate
                self.worst_s = max(self.worst_s, self._free_at - self.now)
                before = self._answers[-1][0] if self._answers else 0.0
                arrives = max(self._free_at + self.trip, before)
                self._answers.append((arrives, cut.first + count - 1))
                self.carried += count * RECORD
            if not self._answers:
                return
            self.now, seq = self._answers.popleft()
            mark = StreamMark("record", Position(seq, Journal().hash_at("", seq)), seq)
            self.sender.ack([mark], CREDIT, self.now)


def patience(line: Line) -> float:
    """Seconds from a frame's sending to its end on the line: what the empty line holds, the queue
    that is allowed, and a frame at either end.
    """
    frame = max(FRAME_SECONDS, MIN_FRAME_BYTES / line.rate) + RECORD / line.rate
    return line.trip + QUEUE_SECONDS + 2 * frame


@given(rates, trips)
@settings(max_examples=16)
def test_a_full_line_keeps_a_short_queue(rate: int, trip: float) -> None:
    line = Line(rate, trip)
    line.run(40)
    line.run(3 * PROBE_SECONDS)
    assert line.worst_s <= patience(line)
    assert line.carried >= 0.75 * rate * 3 * PROBE_SECONDS


def test_before_anything_was_measured_little_is_in_flight() -> None:
    line = Line(62_500, 0.3)
    line.run(0.3)
    assert line.sender.in_flight <= FIRST_WINDOW_BYTES + FIRST_FRAME_BYTES


@given(rates, st.sampled_from([(0.02, 0.9), (0.3, 0.02), (0.05, 0.5)]))
@settings(max_examples=12)
def test_a_way_that_became_longer_or_shorter_is_learnt(
    rate: int, trip: tuple[float, float]
) -> None:
    line = Line(rate, trip[0])
    line.run(20)
    line.trip = trip[1]
    line.run(8 * PROBE_SECONDS)
    line.run(3 * PROBE_SECONDS)
    assert line.carried >= 0.75 * rate * 3 * PROBE_SECONDS
    assert line.worst_s <= patience(line)


@given(st.sampled_from([(1_000_000, 62_500), (62_500, 1_000_000)]), trips)
@settings(max_examples=8)
def test_a_rate_that_changed_is_followed(rate: tuple[int, int], trip: float) -> None:
    line = Line(rate[0], trip)
    line.run(20)
    line.rate = rate[1]
    line.run(5 * PROBE_SECONDS)
    line.run(3 * PROBE_SECONDS)
    assert line.carried >= 0.75 * rate[1] * 3 * PROBE_SECONDS
    assert line.worst_s <= patience(line)


def test_a_trickle_forgets_neither_rate_nor_way() -> None:
    """What sends a record now and then is no slow line."""
    line = Line(1_000_000, 0.1, last=5000)
    line.run(60)
    sender, window = line.sender, line.sender.window
    assert sender.in_flight == 0
    for number in range(1, 40):
        now = line.now + number
        sender.appended(Outgoing("alarm", Lane.ALARM, number, 0, 0, number - 1))
        cut = sender.cut()
        assert cut is not None
        sender.sent(cut, 1, 100, now)
        found = StreamMark("alarm", Position(number, Journal().hash_at("", number)), number)
        sender.ack([found], CREDIT, now + 0.1)
    assert sender.window >= window / 2
