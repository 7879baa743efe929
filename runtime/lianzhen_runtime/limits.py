"""How often somebody may ask: token buckets in memory, bounded."""

from collections import OrderedDict

from .tls import Clock


class Buckets:
    """A token bucket for each key: ``burst`` at once, then one an ``every`` seconds.

    When there are more keys than fit, the one not heard of for longest is forgotten. ``clock``
    counts seconds and never goes back (time.monotonic).
    """

    def __init__(self, clock: Clock, burst: int, every: float, limit: int = 100_000) -> None:
        self._clock = clock
        self._burst = burst
        self._every = every
        self._limit = limit
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one token, and 0; or none, and the seconds until there is one."""
        now = self._clock()
        # The moment at which the bucket is full again says all there is to know of it.
        full_at = max(self._full_at.pop(key, now), now) + self._every
        wait = full_at - now - self._burst * self._every
        if wait > 0:
            self._full_at[key] = full_at - self._every
            return wait
        while len(self._full_at) >= self._limit:
            self._full_at.popitem(last=False)
        self._full_at[key] = full_at
        return 0.0

    def forget(self, key: str) -> None:
        """The bucket is full again."""
        self._full_at.pop(key, None)
