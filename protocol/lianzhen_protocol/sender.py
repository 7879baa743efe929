"""The writing half of all streams of one session (docs/protocol.md, 7).

Holds what is known of each stream, what is in flight and how fast the other side commits, and
says what to send next. It never holds a record: the journal does. All sizes are bytes of
records before compression; all times are seconds of one monotonic clock.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec

from . import marks
from .frame import MAX_RECORDS, TARGET_PLAIN_BYTES
from .lanes import Lane, LaneScheduler
from .marks import Diverged, Resume, StreamMark

FRAME_SECONDS = 0.1
"""A frame is cut to this much of the measured rate, so that the next lane's turn comes soon."""

QUEUE_SECONDS = 0.2
"""In flight may be what the empty line holds and this much of the rate: so long, and no longer, do
our bytes stand in the queue of the slowest link, where whatever is more urgent waits behind them.
"""

PROBE_SECONDS = 10.0
"""A trip through the empty line is measured this often, as nothing else tells a longer way from a
fuller queue.
"""

FIRST_FRAME_BYTES = 16 << 10
FIRST_WINDOW_BYTES = 32 << 10
MIN_FRAME_BYTES = 1 << 10
RTO_MIN, RTO_MAX = 2.0, 60.0
_RATE_SAMPLES = 10
_FLOOR_SAMPLES = 3


class Cut(NamedTuple):
    """Read records of ``stream`` from ``first`` on, within both limits, and send them."""

    stream: str
    lane: Lane
    first: int
    max_records: int
    max_bytes: int
    fresh: bool = True
    """None of these was sent before in this session."""


class Advanced(NamedTuple):
    """The receiver's marks moved; everything up to ``safe`` may be deleted."""

    stream: str
    committed: int
    safe: int


class Forked(NamedTuple):
    """The stream's histories differ: leave the epoch before anything else is sent."""

    stream: str
    reason: marks.ForkReason
    theirs: marks.Position


Effect = Advanced | Forked


class Outgoing(msgspec.Struct):
    """One stream as its writer sees it: 0 <= safe <= committed <= sent <= last.

    ``welcomed``: its records may be sent. ``checked``: the receiver's hash was compared with
    ours in this session, so a lower mark is an old message and no news.
    """

    name: str
    lane: Lane
    last: int
    committed: int
    safe: int
    sent: int
    welcomed: bool = False
    checked: bool = False


class _Flight(msgspec.Struct):
    """A frame that was sent and not yet acknowledged.

    ``alone``: nothing else was in flight. ``sparse``: nothing more waited to be sent. ``again``:
    it was sent before, so an answer may be to the earlier one, and says nothing of the time.
    """

    stream: str
    last: int
    size: int
    at: float
    delivered: int
    alone: bool
    again: bool
    sparse: bool


class HashLookup(Protocol):
    """What the sender asks its journal."""

    def hash_at(self, stream: str, seq: int) -> bytes | None:
        """Chain hash after a record; None where the journal has it no more, or not yet."""


class Sender:
    """What to send next, and what an acknowledgement means."""

    def __init__(self, journal: HashLookup) -> None:
        self._journal = journal
        self._streams: dict[str, Outgoing] = {}
        self._ready: dict[Lane, deque[str]] = {}
        self._queued: set[str] = set()
        self._lanes = LaneScheduler()
        self._flights: dict[str, deque[_Flight]] = {}
        self._reached: dict[str, int] = {}
        self._in_flight = 0
        self._delivered = 0
        self._rates: deque[float] = deque(maxlen=_RATE_SAMPLES)
        self._round_trip: float | None = None
        self._floors: deque[float] = deque(maxlen=_FLOOR_SAMPLES)
        self._probed_at = 0.0
        self._probing = False
        self._credit = 0
        self._welcomed = False
        self._rewound: dict[str, tuple[int, float]] = {}
        self._progress_at = 0.0
        self._timeouts = 0

    # -- what the journal says

    def load(self, streams: Iterable[Outgoing]) -> None:
        """The journal's streams at the begin of a session; nothing is in flight."""
        for stream in streams:
            self._streams[stream.name] = stream

    def appended(self, found: Outgoing) -> None:
        """Records up to ``found.last`` are durable in the journal.

        A stream that was absent at hello joins here; its first acknowledgement carries a hash
        and so checks what hello would have checked, also that the receiver is not behind us.
        """
        stream = self._streams.setdefault(found.name, found)
        stream.welcomed = self._welcomed
        stream.last = max(stream.last, found.last)
        self._queue(stream)

    # -- what the receiver says

    def welcome(self, found: Iterable[StreamMark], credit: int, now: float) -> list[Effect]:
        """The receiver's answer to hello: where each stream that we named goes on."""
        self._credit, self._progress_at = credit, now
        effects = [effect for mark in found if (effect := self._apply(mark, now))]
        if not any(isinstance(effect, Forked) for effect in effects):
            self._welcomed = True
            for stream in self._streams.values():
                stream.welcomed = True
                self._queue(stream)
        return effects

    def ack(self, found: Iterable[StreamMark], credit: int, now: float) -> list[Effect]:
        """A cumulative acknowledgement; a mark is believed only if its hash is ours."""
        self._credit = credit
        return [effect for mark in found if (effect := self._apply(mark, now))]

    def _apply(self, mark: StreamMark, now: float) -> Effect | None:
        stream = self._streams.get(mark.stream)
        if stream is None or (stream.checked and mark.committed.seq < stream.committed):
            return None  # foreign, or older than what we know from this session
        outcome = marks.reconcile(
            stream.last,
            stream.safe,
            mark.committed,
            lambda seq: self._journal.hash_at(stream.name, seq),
        )
        match outcome:
            case Diverged(reason):
                return Forked(stream.name, reason, mark.committed)
            case Resume(committed):
                before, stream.committed, stream.checked = stream.committed, committed, True
                moved = committed != before or mark.safe > stream.safe
                if committed > before:
                    self._progress_at, self._timeouts = now, 0
                stream.safe = max(stream.safe, min(mark.safe, committed))
                self._land(stream, now)
                stream.sent = max(stream.sent, committed)
                if committed < before or (mark.gap and self._may_rewind(stream, now)):
                    self._rewind(stream, now)
                return Advanced(stream.name, committed, stream.safe) if moved else None

    # -- what to send

    def cut(self) -> Cut | None:
        """The next frame to send, or None while nothing waits or the window is full."""
        if self._in_flight >= self.window:
            return None
        while self._ready:
            lane = self._lanes.choose(self._ready.keys())
            names = self._ready[lane]
            stream = self._streams[names[0]]
            if stream.sent >= stream.last:
                self._unqueue(lane)
                continue
            records = min(MAX_RECORDS, stream.last - stream.sent)
            fresh = stream.sent >= self._reached.get(stream.name, 0)
            return Cut(stream.name, lane, stream.sent + 1, records, self.frame_bytes, fresh)
        return None

    def sent(self, cut: Cut, count: int, size: int, now: float) -> None:
        """``count`` records (``size`` bytes) of ``cut`` were handed to the transport.

        If an answer moved the stream after ``cut``, this frame is a repetition: it is not
        counted, and the stream goes on from where the answer put it.
        """
        stream = self._streams[cut.stream]
        if cut.first == stream.sent + 1:
            if not self._in_flight:
                self._progress_at = now
            stream.sent = cut.first + count - 1
            flight = _Flight(
                stream.name, stream.sent, size, now, self._delivered,
                alone=not self._in_flight,
                again=cut.first <= self._reached.get(stream.name, 0),
                sparse=stream.sent == stream.last and self._queued == {stream.name},
            )  # fmt: skip
            self._reached[stream.name] = max(stream.sent, self._reached.get(stream.name, 0))
            self._flights.setdefault(stream.name, deque()).append(flight)
            self._in_flight += size
        self._lanes.served(cut.lane, size)
        self._unqueue(cut.lane)
        self._queue(stream)

    def tick(self, now: float) -> bool:
        """Rewind every stream if nothing moved for a whole time-out; True if it did."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return False
        self._timeouts += 1
        for stream in self._streams.values():
            if stream.sent > stream.committed:
                self._rewind(stream, now)
        self._progress_at = now
        return True

    # -- what is known

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due, or None while nothing is in flight."""
        return self._progress_at + self.timeout if self._in_flight else None

    @property
    def timeout(self) -> float:
        """Seconds without progress after which all is sent again; doubles each time."""
        rto = max(RTO_MIN, 4 * (self._round_trip or 0.0))
        return min(RTO_MAX, rto * 2.0 ** min(self._timeouts, 10))

    @property
    def frame_bytes(self) -> int:
        """Where the next frame is cut: FRAME_SECONDS of the measured rate."""
        if not self._rates:
            return FIRST_FRAME_BYTES
        timed = int(max(self._rates) * FRAME_SECONDS)
        return max(MIN_FRAME_BYTES, min(timed, TARGET_PLAIN_BYTES))

    @property
    def window(self) -> int:
        """Bytes that may be in flight: the shortest trip and QUEUE_SECONDS of the measured rate,
        within credit.

        Never under one frame: what is in flight is what brings the next credit. While the empty
        line is to be measured, one byte: the next frame goes alone.
        """
        if self._probing:
            return 1
        timed = FIRST_WINDOW_BYTES
        if self._rates and self._floors:
            timed = int(max(self._rates) * (min(self._floors) + QUEUE_SECONDS))
        return max(MIN_FRAME_BYTES, min(self._credit, timed))

    def sent_up_to(self, stream: str) -> int:
        """How far a stream was handed to the transport in this session."""
        found = self._streams.get(stream)
        return found.sent if found else 0

    @property
    def in_flight(self) -> int:
        """Bytes sent and not acknowledged."""
        return self._in_flight

    @property
    def round_trip(self) -> float | None:
        """Smoothed seconds from sending a frame to its commit at the receiver."""
        return self._round_trip

    # -- bookkeeping

    def _queue(self, stream: Outgoing) -> None:
        if stream.welcomed and stream.sent < stream.last and stream.name not in self._queued:
            self._queued.add(stream.name)
            self._ready.setdefault(stream.lane, deque()).append(stream.name)

    def _unqueue(self, lane: Lane) -> None:
        names = self._ready[lane]
        self._queued.discard(names.popleft())
        if not names:
            del self._ready[lane]

    def _land(self, stream: Outgoing, now: float) -> None:
        flights = self._flights.get(stream.name)
        newest = None
        while flights and flights[0].last <= stream.committed:
            newest = flights.popleft()
            self._in_flight -= newest.size
            self._delivered += newest.size
        if newest is not None and not newest.again:
            elapsed = max(now - newest.at, 1e-4)
            rate = (self._delivered - newest.delivered) / elapsed
            # What had no more to send says how much there was, and not how much would go.
            if not newest.sparse or rate > max(self._rates, default=0.0):
                self._rates.append(rate)
            before = self._round_trip
            self._round_trip = elapsed if before is None else before + (elapsed - before) / 8
            self._measure_floor(newest, elapsed, now)

    def _measure_floor(self, flight: _Flight, elapsed: float, now: float) -> None:
        """Keep the shortest trips of the last few probes: one may have met with a loss."""
        due = self._probing or now - self._probed_at >= PROBE_SECONDS
        if self._floors and not (due and flight.alone):
            if elapsed >= self._floors[-1]:
                self._probing = due
                return
            self._floors.pop()
        self._floors.append(elapsed)
        self._probed_at, self._probing = now, False

    def _may_rewind(self, stream: Outgoing, now: float) -> bool:
        """Each frame behind a hole is answered with the same gap: go back for the first only."""
        at, when = self._rewound.get(stream.name, (-1, 0.0))
        return at != stream.committed or now - when >= self.timeout

    def _rewind(self, stream: Outgoing, now: float) -> None:
        self._rewound[stream.name] = (stream.committed, now)
        for flight in self._flights.pop(stream.name, ()):
            self._in_flight -= flight.size
        stream.sent = stream.committed
        self._queue(stream)
