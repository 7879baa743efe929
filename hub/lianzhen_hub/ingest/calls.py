"""Which boxes to ask for a hello, and when (docs/protocol.md, 3.6). Pure.

A hub that has just started knows no session, and a box that has nothing to say would not notice:
what waits to go down to it would wait for ever. Calls are spread over the fleet and repeated with
backoff, as a box may just as well be switched off.
"""

import heapq
from collections.abc import Callable, Iterable

from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.retry import backoff

PER_SECOND = 200.0
"""How many boxes are called a second after a start: each answers with a TLS record or two."""

BASE_SECONDS, CAP_SECONDS = 5.0, 600.0


class Calls:
    """A schedule; ``unit`` gives random numbers in [0, 1) for the spread."""

    def __init__(self, unit: Callable[[], float]) -> None:
        self._unit = unit
        self._heap: list[tuple[float, int, NodeId]] = []
        self._wanted: set[NodeId] = set()

    def want(self, nodes: Iterable[NodeId], now: float) -> None:
        """Call these until they are ``heard``; those that are called already go on as they are."""
        fresh = [node for node in nodes if node not in self._wanted]
        spread = len(fresh) / PER_SECOND
        for node in fresh:
            heapq.heappush(self._heap, (now + self._unit() * spread, 0, node))
        self._wanted.update(fresh)

    def heard(self, node: NodeId) -> None:
        """This one has said all that it is asked for."""
        self._wanted.discard(node)

    def due(self, now: float) -> list[NodeId]:
        """Whom to call now; each comes again after its backoff unless it is heard."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            _, attempt, node = heapq.heappop(self._heap)
            if node in self._wanted:
                found.append(node)
                wait = backoff(attempt, self._unit(), base=BASE_SECONDS, cap=CAP_SECONDS)
                heapq.heappush(self._heap, (now + wait, attempt + 1, node))
        return found
