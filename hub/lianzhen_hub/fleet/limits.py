"""What strangers may ask of the hub: nonces that work once, and not too many questions.

Both live in memory and are bounded; after a restart a box asks for another nonce.
"""

import contextlib
import ipaddress
import math
import random
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from lianzhen_runtime.tls import Clock

from .errors import HubBusy, NonceUnknown, TooManyRequests

NONCE_SECONDS: Final = 300.0
_MAX_NONCES: Final = 100_000
_MAX_ADDRESSES: Final = 100_000


class Nonces:
    """One-time nonces. When there are ``limit`` open ones, the oldest makes room.

    ``clock`` counts seconds and never goes back (time.monotonic).
    """

    def __init__(self, clock: Clock, life: float = NONCE_SECONDS, limit: int = _MAX_NONCES) -> None:
        self._clock = clock
        self._life = life
        self._limit = limit
        self._open: OrderedDict[str, float] = OrderedDict()

    def give(self) -> str:
        """A fresh nonce: 128 bits, hexadecimal."""
        while len(self._open) >= self._limit:
            self._open.popitem(last=False)
        nonce = secrets.token_hex(16)
        self._open[nonce] = self._clock() + self._life
        return nonce

    def spend(self, nonce: str) -> None:
        """Use a nonce up; NonceUnknown if it was never given, is used or too old."""
        if self._open.pop(nonce, -math.inf) < self._clock():
            raise NonceUnknown


class RateLimit:
    """A token bucket for each address (IPv6: each /64): ``burst`` at once, then one a ``every``.

    When there are more addresses than fit, the one not heard of for longest is forgotten.
    """

    def __init__(
        self, clock: Clock, burst: int = 20, every: float = 2.0, limit: int = _MAX_ADDRESSES
    ) -> None:
        self._clock = clock
        self._burst = burst
        self._every = every
        self._limit = limit
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, address: str) -> None:
        """Take one token; TooManyRequests names the whole seconds until there is one."""
        key, now = _network(address), self._clock()
        # The moment at which the bucket is full again says all there is to know of it.
        full_at = max(self._full_at.pop(key, now), now) + self._every
        wait = full_at - now - self._burst * self._every
        if wait > 0:
            self._full_at[key] = full_at - self._every
            raise TooManyRequests(math.ceil(wait))
        while len(self._full_at) >= self._limit:
            self._full_at.popitem(last=False)
        self._full_at[key] = full_at


class Room:
    """So many requests at a time. Whoever finds no room is told when to come back, spread."""

    def __init__(
        self, places: int = 32, unit: Callable[[], float] = random.random, spread: int = 60
    ) -> None:
        self._places = places
        self._unit = unit
        self._spread = spread

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place; HubBusy if there is none."""
        if not self._places:
            raise HubBusy(math.ceil(self._spread * (1 + self._unit()) / 2))
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return address
