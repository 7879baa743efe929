"""A line that can be made bad: cut in mid-frame, half-open, slow, in drops, or down altogether.

A TCP proxy in this program; whoever should have a bad line dials it instead of the other side.
"""

import contextlib
import selectors
import socket
import threading
import time

from lab import free_ports

CHUNK = 16 << 10


class Line:
    """Forwards TCP until told to misbehave. One thread, which owns every socket."""

    def __init__(self, target: int, host: str = "127.0.0.1", port: int | None = None) -> None:
        self._target = ("127.0.0.1", target)
        self.port = free_ports(1)[0] if port is None else port
        self._listener = socket.create_server((host, self.port))
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._ending = False
        self.passed = 0
        """Bytes that went up, by all connections together."""
        self.cut_after: int | None = None
        """Every connection is reset when this many more bytes went up."""
        self.frozen = False
        """Nothing is forwarded, and no connection is closed: a line that died silently."""
        self.down = False
        """Nobody is let through: every connection ends as it comes."""
        self.chunk, self.pause_s = CHUNK, 0.0
        """How much passes at a time, and how long it takes."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, and every connection with it."""
        self._ending = True
        self._thread.join(10)
        self.reset()
        self._listener.close()
        self._selector.close()

    def reset(self) -> None:
        """Drop every connection at once, without a good-bye."""
        with self._lock:
            for one in list(self._peers):
                self._forget(one)

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._ending:
            if self.frozen:
                time.sleep(0.02)
                continue
            for key, _ in self._selector.select(0.1):
                with self._lock, contextlib.suppress(OSError):
                    self._serve(key.fileobj)  # type: ignore[arg-type]

    def _serve(self, ready: socket.socket) -> None:
        if ready is self._listener:
            self._accept()
            return
        if ready not in self._peers:
            return
        try:
            content = ready.recv(self.chunk)
            if content:
                time.sleep(self.pause_s)
                self._peers[ready].sendall(self._allowed(ready, content))
        except OSError:
            content = b""
        if not content:
            self._forget(ready)

    def _accept(self) -> None:
        box, _ = self._listener.accept()
        if self.down:
            box.close()
            return
        try:
            hub = socket.create_connection(self._target, 5)
        except OSError:
            box.close()
            return
        for one, other in ((box, hub), (hub, box)):
            one.settimeout(5)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _allowed(self, source: socket.socket, content: bytes) -> bytes:
        if source.getpeername() == self._target:
            return content
        self.passed += len(content)
        if self.cut_after is None:
            return content
        self.cut_after -= len(content)
        if self.cut_after > 0:
            return content
        kept = content[: self.cut_after or None]
        self.cut_after = None
        self._peers[source].sendall(kept)
        for one in list(self._peers):
            self._forget(one)
        return b""

    def _forget(self, one: socket.socket) -> None:
        for leaving in (one, self._peers.get(one)):
            if leaving is not None and self._peers.pop(leaving, None) is not None:
                self._selector.unregister(leaving)
                with contextlib.suppress(OSError):
                    leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                leaving.close()


class Wan:
    """The line between a clinic and its hub, by both of the hub's doors.

    The hub listens on 127.0.0.1; whoever dials the same ports of 127.0.0.2 comes through here.
    """

    HOST = "127.0.0.2"

    def __init__(self, *ports: int) -> None:
        self._lines = [Line(port, self.HOST, port) for port in ports]

    def cut(self) -> None:
        """From now on nothing passes."""
        for line in self._lines:
            line.down = True
            line.reset()

    def restore(self) -> None:
        """It works again."""
        for line in self._lines:
            line.down = False

    def close(self) -> None:
        """End it."""
        for line in self._lines:
            line.close()
