"""Which sessions a hub knows (docs/protocol.md, 3.2): volatile, begun by hello, ended by presence.

A session is a node, a group and an *epoch*: two boxes that share a name but not an epoch (a clone
that has forked) would otherwise displace each other for ever.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from .hello import Hello
from .identity import Epoch, NodeId
from .lanes import Group

_REMEMBERED = 16


class Live(NamedTuple):
    """A hello that was welcomed."""

    session: bytes
    group: Group
    epoch: Epoch
    instance: bytes


class Sessions:
    """All sessions of all nodes."""

    def __init__(self) -> None:
        self._of: dict[NodeId, dict[tuple[Group, Epoch], Live]] = {}
        self._succeeded: dict[NodeId, deque[bytes]] = {}

    def begin(self, node: NodeId, hello: Hello) -> None:
        """The session of ``hello`` counts from here, and no other of the same program."""
        self.end(node, hello.group, hello.instance)
        live = Live(hello.session, hello.group, Epoch(hello.epoch), hello.instance)
        mine = self._of.setdefault(node, {})
        before = mine.get((live.group, live.epoch))
        if before is not None:
            remembered = self._succeeded.setdefault(node, deque(maxlen=_REMEMBERED))
            remembered.append(before.instance)
        mine[live.group, live.epoch] = live

    def end(self, node: NodeId, group: Group, instance: bytes) -> bool:
        """A program has gone, or begins anew; True if it had a session in this group."""
        mine = self._of.get(node, {})
        found = [key for key, live in mine.items() if key[0] is group and live.instance == instance]
        for key in found:
            del mine[key]
        return bool(found)

    def drop(self, node: NodeId) -> None:
        """Nothing that this node says counts any more."""
        self._of.pop(node, None)

    def clear(self) -> None:
        """The hub's own session is lost, and with it all others. Who succeeded whom stays."""
        self._of.clear()

    def find(self, node: NodeId, group: Group, epoch: Epoch) -> Live | None:
        """The session that a frame of this epoch belongs to."""
        return self._of.get(node, {}).get((group, epoch))

    def of(self, node: NodeId, group: Group) -> list[Live]:
        """Sessions of one group: one, or more for twins."""
        return [live for live in self._of.get(node, {}).values() if live.group is group]

    def complete(self, node: NodeId) -> bool:
        """Whether both groups are there."""
        return all(self.of(node, group) for group in Group)

    def succeeded(self, node: NodeId) -> frozenset[bytes]:
        """Programs in whose place, in the same epoch, another one said hello."""
        return frozenset(self._succeeded.get(node, ()))

    def __iter__(self) -> Iterator[tuple[NodeId, Live]]:
        return ((node, live) for node, mine in self._of.items() for live in mine.values())
