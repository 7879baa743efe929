"""The kernel's word that the network has changed: a link, an address or a route is new.

A box that waits out its pause then tries at once. Where the kernel says nothing (a cut far away),
the pause is short enough by itself.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

from lianzhen_runtime.log import Log

NEW_LINK, NEW_ADDRESS, NEW_ROUTE = 16, 20, 24
_ROUTE_PROTOCOL = 0
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links; IPv4 and IPv6 addresses, routes
_HEADER = struct.Struct("=IHHII")
_READ_BYTES = 64 << 10
_log = Log("lianzhen.uplink")


def kinds(content: bytes) -> Iterator[int]:
    """The types of the messages (struct nlmsghdr, linux/netlink.h) in a datagram."""
    at = 0
    while at + _HEADER.size <= len(content):
        length, kind, *_ = _HEADER.unpack_from(content, at)
        if length < _HEADER.size:
            return
        yield kind
        at += length + 3 & ~3


@contextlib.contextmanager
def watched(changed: Callable[[], None]) -> Iterator[None]:
    """Call ``changed`` on the loop at each change, for the length of a block."""
    loop = asyncio.get_running_loop()
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _ROUTE_PROTOCOL)
        opened.bind((0, _GROUPS))
    except OSError as error:  # a sandbox may forbid it: the pauses are all there is
        _log.warning("the kernel does not tell of routes", error=type(error).__name__)
        yield
        return
    opened.setblocking(False)

    def read() -> None:
        try:
            found = set(kinds(opened.recv(_READ_BYTES)))
        except OSError:  # too many at once for its buffer: something did change
            found = {NEW_ROUTE}
        if found & {NEW_LINK, NEW_ADDRESS, NEW_ROUTE}:
            changed()

    loop.add_reader(opened, read)
    try:
        yield
    finally:
        loop.remove_reader(opened)
        opened.close()
