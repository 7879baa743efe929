"""The volatile half of a receiver: frames judged and staged, one commit, then the answers."""

from lianzhen_protocol import receiver
from lianzhen_protocol.frame import Frame
from lianzhen_protocol.marks import Position
from lianzhen_protocol.receiver import Accepted, Divergent, Gap, Verdict

from .simulator_store import Inbox, Place, Taken


class Intake:
    """What came in since the last commit. A crash forgets it, and nobody was told otherwise."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._staged: list[Taken] = []
        self._marks: dict[Place, Position] = {}
        self._touched: dict[Place, bool] = {}

    def hear(self, frame: Frame) -> None:
        """Judge a frame against what is committed or staged, and remember to answer it."""
        place = (frame.epoch, frame.stream)
        verdict = self.judge(self._marks.get(place) or self._inbox.mark(place), frame)
        if isinstance(verdict, Accepted):
            self._staged.append(Taken(place, verdict.first, verdict.records))
            self._marks[place] = verdict.position
        self._touched[place] = isinstance(verdict, Gap | Divergent)

    def judge(self, mark: Position, frame: Frame) -> Verdict:
        """The protocol's own word on a frame."""
        return receiver.receive(mark, frame)

    def commit(self) -> dict[Place, bool]:
        """Log and marks in one commit; answers the streams to acknowledge, and where a gap is."""
        self._inbox.log.extend(self._staged)
        self._inbox.marks.update(self._marks)
        touched, self._touched = self._touched, {}
        self._staged, self._marks = [], {}
        return touched

    def staged(self, place: Place) -> Position:
        """Where a stream will stand after the commit."""
        return self._marks.get(place) or self._inbox.mark(place)

    @property
    def waiting(self) -> bool:
        """Something came since the last commit."""
        return bool(self._touched)
