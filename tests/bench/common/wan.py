"""A line with a rate, a delay and cuts, as a TCP proxy that counts what goes over it.

All connections of a line share its rate, each way. A byte counts when it goes on the line, whether
it arrives or not. A cut resets every connection, drops what is on its way, and lets nobody in; what
a sender's kernel still held was never sent. One event loop in a thread of its own.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final, NamedTuple

PIECE: Final = 2048
_LATE: Final = 0.02
_RECEIVE_BUFFER: Final = 16 << 10
_RESET: Final = struct.pack("ii", 1, 0)
_TLS_HEAD: Final = 5
_APPLICATION_DATA: Final = 23
_TLS_SEAL: Final = 17


class Shape(NamedTuple):
    """Bytes a second each way, seconds one way, and how long it is up and down in turns."""

    rate: float
    delay: float
    up: float
    down: float


class _TlsMeter:
    """Bytes inside TLS of one direction of one connection: whatever application data carry."""

    def __init__(self) -> None:
        self.inside = 0
        self._head = bytearray()
        self._left = 0
        self._counts = False

    def saw(self, content: bytes) -> None:
        """The next bytes."""
        at = 0
        while at < len(content):
            if self._left == 0:
                taken = content[at : at + _TLS_HEAD - len(self._head)]
                self._head += taken
                at += len(taken)
                if len(self._head) == _TLS_HEAD:
                    kind, _, self._left = struct.unpack("!BHH", self._head)
                    self._counts = kind == _APPLICATION_DATA
                    self.inside -= _TLS_SEAL if self._counts else 0
                    self._head.clear()
                continue
            taken = content[at : at + self._left]
            self._left -= len(taken)
            self.inside += len(taken) if self._counts else 0
            at += len(taken)


class _Way:
    """One direction: whoever wants to send waits for its turn."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._turn = asyncio.Lock()
        self._free_at = 0.0
        self.carried = 0
        self.limited = False

    async def carry(self, size: int) -> float:
        """Return when ``size`` bytes are on the line; when they will be at its other end."""
        async with self._turn:
            if self.limited:
                now = time.monotonic()
                # What a late wake-up lost is made good, so that a busy machine makes no slow line.
                self._free_at = max(now - _LATE, self._free_at) + size / self._shape.rate
                await asyncio.sleep(max(0.0, self._free_at - now))
            self.carried += size
        return time.monotonic() + (self._shape.delay if self.limited else 0.0)


class Wan:
    """Doors on ``host`` that lead to the same ports of 127.0.0.1, or to those of ``doors``.

    A plain line until ``begin``.
    """

    def __init__(self, shape: Shape, doors: Mapping[int, int], host: str = "127.0.0.2") -> None:
        self._shape = shape
        self.host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._open: set[asyncio.Task[None]] = set()
        self._down = False
        self.cuts = 0
        self.connections = 0
        self._meters = dict[int, list[_TlsMeter]]()
        self._tasks: list[asyncio.Task[None]] = []
        self._wait(self._listen(doors))

    def begin(self) -> None:
        """Rate, delay and cuts from now on; counters from zero."""
        self._wait(self._begin())

    def carried(self) -> dict[str, int]:
        """Bytes that went up and down since, connections, and cuts."""
        up, down = (way.carried for way in (self._up, self._back))
        return {"up": up, "down": down, "connections": self.connections, "cuts": self.cuts}

    def inside(self, door: int) -> int:
        """Bytes that went up inside TLS through a door."""
        return sum(meter.inside for meter in self._meters[door])

    def close(self) -> None:
        """End it."""
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _wait(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _listen(self, doors: Mapping[int, int]) -> None:
        self._up, self._back = _Way(self._shape), _Way(self._shape)
        for door, target in doors.items():
            listener = socket.create_server((self.host, door))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            listener.setblocking(False)
            self._meters[door] = []
            self._tasks.append(self._spawn(self._accept(listener, door, target)))

    def _spawn(self, what: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        return self._loop.create_task(what)

    async def _begin(self) -> None:
        for way in (self._up, self._back):
            way.limited, way.carried = True, 0
        self.connections = 0
        self._meters = {door: [] for door in self._meters}
        self._reset()
        self._tasks.append(self._spawn(self._cut()))

    async def _cut(self) -> None:
        while True:
            await asyncio.sleep(self._shape.up)
            self._down = True
            self.cuts += 1
            self._reset()
            await asyncio.sleep(self._shape.down)
            self._down = False

    def _reset(self) -> None:
        for task in list(self._open):
            task.cancel()

    async def _end(self) -> None:
        tasks = [*self._tasks, *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket, door: int, target: int) -> None:
        with listener:
            while True:
                near, _ = await self._loop.sock_accept(listener)
                if self._down:
                    _drop(near)
                    continue
                self.connections += 1
                task = self._spawn(self._connected(near, door, target))
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    async def _connected(self, near: socket.socket, door: int, target: int) -> None:
        far = socket.socket()
        for one in (near, far):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        meter = _TlsMeter()
        self._meters[door].append(meter)
        try:
            await self._loop.sock_connect(far, ("127.0.0.1", target))
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(near, far, self._up, meter))
                both.create_task(self._pump(far, near, self._back, _TlsMeter()))
        except* OSError:
            pass
        finally:
            _drop(near)
            _drop(far)

    async def _pump(
        self, source: socket.socket, sink: socket.socket, way: _Way, meter: _TlsMeter
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver(sink, under_way))
            while content := await self._loop.sock_recv(source, PIECE):
                due = await way.carry(len(content))
                meter.saw(content)
                under_way.put_nowait((due, content))
            under_way.put_nowait((time.monotonic() + self._shape.delay, b""))

    async def _deliver(
        self, sink: socket.socket, under_way: "asyncio.Queue[tuple[float, bytes]]"
    ) -> None:
        while True:
            due, content = await under_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not content:
                sink.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(sink, content)


def _drop(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    one.close()
