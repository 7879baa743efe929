"""When to try again: for ever, capped, jittered (docs/protocol.md, 9)."""


def backoff(attempt: int, unit: float, *, base: float = 1.0, cap: float = 60.0) -> float:
    """Seconds to wait before try number ``attempt`` + 1 (attempts count from 0).

    Doubles from ``base`` to ``cap``; ``unit``, a random number in [0, 1), spreads the wait over
    its upper half, so that a fleet that lost its hub at one moment does not come back at one.
    """
    ceiling = min(cap, base * 2.0 ** min(attempt, 30))
    return ceiling * (0.5 + unit / 2)
