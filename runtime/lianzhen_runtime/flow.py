"""How much goes along one way, and how fast just now: counters for metrics, a rate for people."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 10
"""What a rate is taken over: long enough to be read, short enough to be of now."""


class Flow:
    """Counts since the program's start. Costs the same however much has passed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.items = 0
        self.size = 0
        self.again = 0
        """Of ``items``, those that had passed before."""
        self._clock = clock
        self._seconds: deque[tuple[int, int]] = deque()

    def passed(self, items: int, size: int, again: int = 0) -> None:
        """So many items of together ``size`` bytes have just passed."""
        self.items += items
        self.size += size
        self.again += again
        second = int(self._clock())
        if self._seconds and self._seconds[-1][0] == second:
            size += self._seconds.pop()[1]
        self._seconds.append((second, size))
        self._forget(second)

    @property
    def rate(self) -> float:
        """Bytes a second, over the last WINDOW_SECONDS."""
        self._forget(int(self._clock()))
        return sum(size for _, size in self._seconds) / WINDOW_SECONDS

    def _forget(self, now: int) -> None:
        while self._seconds and self._seconds[0][0] <= now - WINDOW_SECONDS:
            self._seconds.popleft()
