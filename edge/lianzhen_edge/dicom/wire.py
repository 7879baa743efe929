"""A connection under an association, plain or TLS, that never waits for ever.

A plain socket blocks in the kernel with a tick: one call fills a whole PDU, and what came late is
noticed a tick later at most.
"""

import contextlib
import select
import socket
import ssl
import struct
import time
from typing import Final

from .dimse import LinkGone

_SEND_SECONDS: Final = 30.0


class TooSlow(Exception):
    """The peer was given its time."""


class Wire:
    """``tick``: seconds after which a wait looks at the clock."""

    def __init__(self, connection: socket.socket, tick: float) -> None:
        self._socket = connection
        self._tls = isinstance(connection, ssl.SSLSocket)
        self._flags = 0 if self._tls else socket.MSG_WAITALL
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            connection.settimeout(tick)
        else:
            connection.settimeout(None)
            for option, seconds in (
                (socket.SO_RCVTIMEO, tick),
                (socket.SO_SNDTIMEO, _SEND_SECONDS),
            ):
                value = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
                connection.setsockopt(socket.SOL_SOCKET, option, value)

    def fill(self, view: memoryview, *, silence: float, until: float) -> None:
        """Read so many bytes. TooSlow after so many seconds without any, or at ``until``
        (monotonic); LinkGone if they do not come.
        """
        got, size = 0, len(view)
        heard = 0.0
        while got < size:
            count = self._receive(view[got:] if got else view)
            if count == 0:
                raise LinkGone("the peer has closed the connection")
            if got + (count or 0) == size:
                return
            now = time.monotonic()
            if count or not heard:
                heard = now
            if now > until or now - heard > silence:
                raise TooSlow
            got += count or 0

    def _receive(self, view: memoryview) -> int | None:
        try:
            return self._socket.recv_into(view, 0, self._flags)
        except (BlockingIOError, TimeoutError):
            return None
        except OSError as error:
            raise LinkGone("the connection has broken") from error

    def send(self, content: bytes) -> None:
        """All of it; LinkGone if it cannot be."""
        try:
            self._socket.sendall(content)
        except OSError as error:
            raise LinkGone("the connection has broken") from error

    def spoke(self, seconds: float) -> bool:
        """Whether the peer says something, or is gone, within so many seconds."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        poll = select.poll()
        try:
            poll.register(self._socket.fileno(), select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        except (OSError, ValueError) as error:
            raise LinkGone("the connection was closed") from error

    def finish(self, seconds: float) -> None:
        """Say no more, and give the peer its time to read and to close."""
        until, scratch = time.monotonic() + seconds, memoryview(bytearray(4096))
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(LinkGone):
            while time.monotonic() < until and self._receive(scratch) != 0:
                pass

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()
