"""How much of an image is on the way at once, by what the line has carried so far.

Records share the line with images, and an alarm waits behind whatever lies in the line's queues. So
an upload keeps in flight what the line carries in one round trip and a quarter of a second, and
never more than a chunk of the wire contract, all its connections together: small chunks on a slow
line, and send buffers that the kernel does not let grow.
"""

import contextlib
import socket
import weakref
from typing import Any, Final

MAX_CHUNK_BYTES: Final = 1 << 20
"""What the hub takes at once (docs/imaging.md)."""
MIN_CHUNK_BYTES: Final = 16 << 10
CHUNK_SECONDS: Final = 2.0
"""A round trip for each chunk is then a small part of it."""
QUEUE_SECONDS: Final = 0.25
"""What may wait in the line's queues, beside what is on its way through it."""
_MIN_BUFFER: Final = 16 << 10
_FIRST_RATE: Final = 64 << 10
_FIRST_TRIP: Final = 0.5
_DEAD_SECONDS: Final = 20
"""After that long without an acknowledgement of anything the kernel gives a connection up."""


class Pace:
    """Of an uploader with ``connections`` at once."""

    def __init__(self, connections: int = 1) -> None:
        self._connections = connections
        self._rate = float(_FIRST_RATE)
        self._trip: float | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.answers = 0
        """Chunks that the hub has said it has."""

    @property
    def chunk(self) -> int:
        """Bytes that go in one request."""
        wanted = int(self._rate * CHUNK_SECONDS)
        return max(MIN_CHUNK_BYTES, min(wanted, MAX_CHUNK_BYTES // self._connections))

    @property
    def buffer(self) -> int:
        """Bytes that a connection may hold which the other side has not acknowledged."""
        wanted = int(self._rate * ((self._trip or _FIRST_TRIP) + QUEUE_SECONDS))
        return max(_MIN_BUFFER, min(wanted, MAX_CHUNK_BYTES // self._connections))

    def asked(self, seconds: float) -> None:
        """A question without a body was answered."""
        self._trip = min(self._trip or seconds, seconds)

    def took(self, size: int, seconds: float) -> None:
        """A chunk of ``size`` was answered after ``seconds``."""
        self.answers += 1
        # Of the time, a trip was the answer's; but a first one, with a handshake, is no trip.
        rate = size / max(seconds - (self._trip or 0.0), seconds / 2, 1e-4)
        if rate > self._rate or size > self.chunk // 2:  # small ones only show the round trip
            self._rate += (rate - self._rate) / 2
            self._fit()

    def slow(self) -> None:
        """There was no answer in time: go on with less."""
        self._rate = max(self._rate / 2, MIN_CHUNK_BYTES / CHUNK_SECONDS)

    def new_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """A socket for a new connection; for aiohttp's connector."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._bound(made)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_SECONDS * 1000)
        self._sockets.add(made)
        return made

    def _fit(self) -> None:
        for each in list(self._sockets):
            with contextlib.suppress(OSError):  # closed meanwhile
                self._bound(each)

    def _bound(self, one: socket.socket) -> None:
        # The kernel doubles it for its own book-keeping, and lets about that much be on the way.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.buffer // 2)
