"""What each lane put on the line, and how much of it for a second time."""

from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.lanes import Lane
from lianzhen_protocol.sender import Cut
from lianzhen_runtime.flow import Flow


class Traffic:
    """Of one group's session, over all of its connections."""

    def __init__(self) -> None:
        self.flows: dict[Lane, Flow] = {}
        self._reached: dict[str, tuple[Epoch, int]] = {}

    def sent(self, cut: Cut, epoch: Epoch, records: int, size: int) -> None:
        """A frame of ``records`` went out, ``size`` bytes of it."""
        before, reached = self._reached.get(cut.stream, (epoch, 0))
        reached = reached if before == epoch else 0
        last = cut.first + records - 1
        again = max(0, min(reached, last) - cut.first + 1)
        self._reached[cut.stream] = epoch, max(reached, last)
        self.flows.setdefault(cut.lane, Flow()).passed(records, size, again)
