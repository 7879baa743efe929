"""A bad line between two networks of this machine: real TCP of the kernel, a link in user space.

Each side is a network namespace with a TUN device; a thread carries packets between them, at a
rate, with a delay, with losses and with a queue that drops what it cannot hold. So retransmissions,
congestion windows and stalls are those of the real kernel, as with netem, which many kernels lack.
Linux and root only.
"""

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HUB, BOX = "10.77.0.1", "10.77.0.2"
_NEW_NET = 0x40000000
_TUNSETIFF, _TUN_NO_INFO = 0x400454CA, 0x1001
_MTU = 1500
_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_libc = ctypes.CDLL(None, use_errno=True)


class Quality(NamedTuple):
    """Bits a second each way, seconds one way, the part that is lost each way, bytes of queue."""

    rate: float
    delay: float
    loss: float
    queue: int


class Way:
    """One direction: what it carried, and when it is free again."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.free_at = 0.0
        self.carried = self.passed = 0
        """Bytes that went on the line, and those of them that arrive."""
        self.lost = self.dropped = 0
        """Packets that were lost, and those that the queue had no room for."""


class NetLine:
    """The calling thread, and what it starts, then lives in the hub's network."""

    def __init__(self, quality: Quality, congestion: str, seed: int) -> None:
        self.quality = quality
        self.down = False
        self._random = random.Random(seed)
        hub = _network("line", HUB, congestion)
        self._hub_net = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        box = _network("line", BOX, congestion)
        self._box_net = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _enter(self._hub_net)
        self.up_way, self.down_way = Way(hub), Way(box)
        self._ways = {box: self.up_way, hub: self.down_way}
        self._under_way: list[tuple[float, int, Way, bytes]] = []
        self._number = 0
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def at_the_box(self) -> Iterator[None]:
        """The calling thread, and what it starts, is on the box's side for a while."""
        _enter(self._box_net)
        try:
            yield
        finally:
            _enter(self._hub_net)

    def close(self) -> None:
        """End it."""
        self._ending = True
        self._thread.join(10)
        for opened in (*self._ways, self._hub_net, self._box_net):
            os.close(opened)

    def _run(self) -> None:
        while not self._ending:
            wait = 0.1
            if self._under_way:
                wait = min(wait, max(0.0, self._under_way[0][0] - time.monotonic()))
            for ready in select.select(list(self._ways), [], [], wait)[0]:
                self._take(self._ways[ready], os.read(ready, 1 << 16))
            while self._under_way and self._under_way[0][0] <= time.monotonic():
                _, _, way, packet = heapq.heappop(self._under_way)
                with contextlib.suppress(OSError):
                    os.write(way.end, packet)

    def _take(self, way: Way, packet: bytes) -> None:
        now, line = time.monotonic(), self.quality
        waiting = max(0.0, way.free_at - now) * line.rate / 8
        if self.down or waiting + len(packet) > line.queue:
            way.dropped += 1
            return
        way.free_at = max(now, way.free_at) + len(packet) * 8 / line.rate
        way.carried += len(packet)
        if self._random.random() < line.loss:
            way.lost += 1
            return
        way.passed += len(packet)
        self._number += 1
        heapq.heappush(self._under_way, (way.free_at + line.delay, self._number, way, packet))


def _network(device: str, address: str, congestion: str) -> int:
    """A new network for this thread, with a TUN device; the device's file descriptor."""
    if _libc.unshare(_NEW_NET) != 0:
        raise OSError(ctypes.get_errno(), "a network of its own needs root")
    try:
        _CONGESTION.write_text(congestion)
    except OSError as error:
        allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().strip()
        raise OSError(f"TCP {congestion}: this machine allows {allowed}") from error
    opened = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(opened, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _TUN_NO_INFO))
    for words in (
        "link set lo up",
        f"addr add {address}/24 dev {device}",
        f"link set {device} mtu {_MTU} up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return opened


def _enter(net: int) -> None:
    if _libc.setns(net, _NEW_NET) != 0:
        raise OSError(ctypes.get_errno(), "the network cannot be entered")
