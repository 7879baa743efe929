"""Hellos that wait for their turn, when a whole fleet comes back at once. Pure.

A hello costs the database a hundred times what a frame costs. So few are answered at a time, in one
transaction, and what the welcomed boxes send goes first. A box that asks again while it waits keeps
its place, with its new session; the line is bounded, and whom it has no room for asks again by
itself (docs/protocol.md, 3.1). Urgent sessions go first: alarms are theirs.
"""

from collections import Counter
from itertools import islice
from typing import Final, NamedTuple

from lianzhen_protocol.hello import Hello
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.lanes import Group

PER_TURN: Final = 32
"""Hellos in one transaction: what a frame may have to wait for."""

CAPACITY: Final = 100_000
"""Sessions in line: more than there are in a fleet of 40,000."""

_BULK_PER_TURN: Final = PER_TURN // 4


class Asked(NamedTuple):
    """Who wants to be welcomed."""

    node: NodeId
    hello: Hello


class Admission:
    """First come, first served, in each of the two groups."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        # A dict keeps the order of its keys, also when a value is replaced.
        self._lines: dict[Group, dict[tuple[NodeId, bytes], Hello]] = {group: {} for group in Group}
        self._waiting: Counter[tuple[NodeId, Group]] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def ask(self, node: NodeId, hello: Hello) -> bool:
        """Get in line, or say anew what one waits there with; False: there is no room."""
        line = self._lines[hello.group]
        if (node, hello.instance) not in line:
            if len(self) >= self._capacity:
                return False
            self._waiting[node, hello.group] += 1
        line[node, hello.instance] = hello
        return True

    def turn(self) -> list[Asked]:
        """Who is next: urgent sessions, and of the others a quarter, or what is left."""
        bulk = self._lines[Group.BULK]
        spare = PER_TURN - min(len(bulk), _BULK_PER_TURN)
        found = self._first(Group.URGENT, spare)
        return found + self._first(Group.BULK, PER_TURN - len(found))

    def waits(self, node: NodeId, group: Group) -> bool:
        """Whether a box is in line, so that nobody need ask it to say hello."""
        return (node, group) in self._waiting

    def withdraw(self, node: NodeId, group: Group, instance: bytes) -> None:
        """Its line broke meanwhile."""
        if self._lines[group].pop((node, instance), None) is not None:
            self._leave(node, group)

    def clear(self) -> None:
        """The hub's own session is lost: everybody will say hello again."""
        self._waiting.clear()
        for line in self._lines.values():
            line.clear()

    def _first(self, group: Group, count: int) -> list[Asked]:
        line, found = self._lines[group], []
        for node, instance in list(islice(line, count)):
            found.append(Asked(node, line.pop((node, instance))))
            self._leave(node, group)
        return found

    def _leave(self, node: NodeId, group: Group) -> None:
        self._waiting[node, group] -= 1
        if not self._waiting[node, group]:
            del self._waiting[node, group]
