"""Lanes: who goes first, and who is never forgotten (docs/protocol.md, 7).

Priority is strict until a lane falls behind its minimum share of the bytes; then that lane is
served. An alarm therefore waits for no more than what waiting lanes are owed just then, and for
nothing while none is owed.
"""

import enum
from collections.abc import Collection
from typing import Final

from .errors import TopicError


class Group(enum.StrEnum):
    """One MQTT session each, so that bulk never stands in front of an alarm in a socket.

    Urgent is what a person waits for and what can never be much; a backlog is bulk, whatever
    it holds.
    """

    URGENT = "urgent"
    BULK = "bulk"


class Lane(enum.IntEnum):
    """In order of priority, the most urgent first."""

    ALARM = 0
    CALL_AUDIO = 1
    CONSULTATION = 2
    RECORD = 3
    VITALS = 4
    CALL_VIDEO = 5
    PREVIEW = 6
    STUDY = 7
    TELEMETRY = 8

    @property
    def group(self) -> Group:
        """The session that carries this lane."""
        return Group.URGENT if self <= Lane.CONSULTATION else Group.BULK

    @property
    def word(self) -> str:
        """What the names of its streams begin with."""
        return _BY_LANE[self]


_WORDS: Final = {
    "alarm": Lane.ALARM,
    "audio": Lane.CALL_AUDIO,
    "consultation": Lane.CONSULTATION,
    "record": Lane.RECORD,
    "vitals": Lane.VITALS,
    "video": Lane.CALL_VIDEO,
    "preview": Lane.PREVIEW,
    "study": Lane.STUDY,
    "telemetry": Lane.TELEMETRY,
}

_BY_LANE: Final = {lane: word for word, lane in _WORDS.items()}


def lane_of(stream: str) -> Lane:
    """The one lane that a stream rides in: the first word of its name (``vitals.ward-2``)."""
    lane = _WORDS.get(stream.partition(".")[0])
    if lane is None:
        raise TopicError(f"a stream's name begins with its lane ({', '.join(_WORDS)}): {stream!r}")
    return lane


MIN_SHARE: Final[dict[Lane, float]] = {
    Lane.ALARM: 0.20,
    Lane.CALL_AUDIO: 0.15,
    Lane.CONSULTATION: 0.15,
    Lane.RECORD: 0.10,
    Lane.VITALS: 0.10,
    Lane.CALL_VIDEO: 0.10,
    Lane.PREVIEW: 0.05,
    Lane.STUDY: 0.03,
    Lane.TELEMETRY: 0.02,
}
"""The part of the bytes that a lane with something to send always gets; they sum to < 1."""


class LaneScheduler:
    """Chooses the lane of the next frame.

    Each byte served to one lane is owed, by its minimum share, to every other lane that was
    waiting. A lane owed more than ``quantum`` bytes goes first, the deepest in credit before
    the others; otherwise the most urgent lane does. A lane with nothing to send is owed nothing.
    """

    def __init__(self, quantum: int = 4096) -> None:
        self._quantum = quantum
        self._owed: dict[Lane, float] = {}

    def choose(self, waiting: Collection[Lane]) -> Lane:
        """The lane to serve next; ``waiting`` are the lanes with something to send, not empty."""
        self._owed = {lane: self._owed.get(lane, 0.0) for lane in waiting}
        behind = [lane for lane, owed in self._owed.items() if owed > self._quantum]
        return max(behind, key=lambda lane: self._owed[lane]) if behind else min(waiting)

    def served(self, lane: Lane, size: int) -> None:
        """``size`` bytes of ``lane`` went out."""
        for other in self._owed:
            if other is not lane:
                self._owed[other] += size * MIN_SHARE[other]
        if lane in self._owed:
            self._owed[lane] = max(0.0, self._owed[lane] - size * (1 - MIN_SHARE[lane]))
