"""The last small frame of the urgent session, sent once more where its answer takes a while.

A packet behind which nothing follows is missed by nobody: TCP sends it again only after two round
trips and more, while one that is followed by another is missed after one. The second copy is that
other packet; where both arrive, the hub answers a repetition (docs/protocol.md, 7.6).
"""

from typing import Final, NamedTuple

TAIL_SECONDS: Final = 0.1
"""More than a quarter of most round trips, within which TCP takes a loss for a change of order."""

TAIL_BYTES: Final = 2048


class Copy(NamedTuple):
    """A frame and its topic."""

    topic: str
    wire: bytes


class Tail:
    """Of one session."""

    def __init__(self) -> None:
        self._copy: Copy | None = None
        self.due = float("inf")
        """When to ask again for ``take``."""

    def sent(self, topic: str, wire: bytes, now: float) -> None:
        """A frame went out; the one before it is followed by it."""
        self._copy = Copy(topic, wire) if len(wire) <= TAIL_BYTES else None
        self.due = now + TAIL_SECONDS if self._copy else float("inf")

    def take(self, now: float, in_flight: int) -> Copy | None:
        """What is to go once more now."""
        if self._copy is None or (in_flight and now < self.due):
            return None
        copy, self._copy, self.due = self._copy, None, float("inf")
        return copy if in_flight else None
