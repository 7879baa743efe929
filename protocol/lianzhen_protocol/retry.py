"""When to try again: for ever, capped, jittered (docs/protocol.md, 9)."""

SPREAD_SECONDS = 4.0
"""Over so long do the boxes spread themselves that lost their hub at one moment."""

UNREACHED_CAP_SECONDS = 8.0
"""Most seconds between tries that never reach the hub: a lost SYN costs it nothing, and the first
try that gets through ends an outage.
"""

HURRY_SECONDS = 2.0
"""The shortest pause's length, and how often what is urgent may have a try of its own."""


def backoff(attempt: int, unit: float, *, base: float = 1.0, cap: float = 60.0) -> float:
    """Seconds to wait before try number ``attempt`` + 1 (attempts count from 0).

    Doubles from ``base`` to ``cap``; ``unit``, a random number in [0, 1), spreads the wait over
    its upper half, so that a fleet that lost its hub at one moment does not come back at one.
    """
    ceiling = min(cap, base * 2.0 ** min(attempt, 30))
    return ceiling * (0.5 + unit / 2)


class Redial:
    """When to dial a hub again. All times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._failures = 0
        self._worked = False
        self._ended_at = float("-inf")
        self.due = float("-inf")
        """When the next try is due."""

    def worked(self) -> None:
        """The hub answered a hello: whatever went wrong before is over."""
        self._failures, self._worked = 0, True

    def ended(self, now: float, unit: float, *, reached: bool) -> None:
        """A try or a session ended; ``reached``: somebody answered there, and it cost him work.

        The first wait after a session that worked is anywhere within SPREAD_SECONDS: the whole
        fleet may just have lost the same hub.
        """
        self._ended_at = now
        if self._worked:
            self._worked = False
            self.due = now + unit * SPREAD_SECONDS
            return
        cap = 60.0 if reached else UNREACHED_CAP_SECONDS
        self.due = now + backoff(self._failures, unit, base=HURRY_SECONDS, cap=cap)
        self._failures += 1

    def line_is_back(self, now: float, unit: float) -> None:
        """The kernel has a new route, or a neighbouring session is through: go on soon."""
        self.due = min(self.due, max(now, self._ended_at) + unit)

    def hurry(self) -> None:
        """Something urgent waits."""
        self.due = min(self.due, self._ended_at + HURRY_SECONDS)
