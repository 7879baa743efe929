"""The protocol's backoff with the randomness that it leaves to the shell."""

import random

from lianzhen_protocol.retry import backoff


def pause(attempt: int, *, base: float = 1.0, cap: float = 60.0) -> float:
    """Seconds to wait before try number ``attempt`` + 1, jittered (protocol.retry)."""
    return backoff(attempt, random.random(), base=base, cap=cap)  # noqa: S311 - not a secret
