"""The line in front of the hub: bounded, fair, and 10,000 boxes that come back at once.

The storm runs under a simulated clock, with the boxes' own backoff and the hub's own line.
"""

import heapq
import random
import secrets
from dataclasses import dataclass, field
from itertools import count

from lianzhen_hub.ingest.admission import PER_TURN, Admission
from lianzhen_protocol.hello import Hello
from lianzhen_protocol.identity import NodeId, new_node_id
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.retry import backoff


def node_of(number: int) -> NodeId:
    return new_node_id(number.to_bytes(8, "big"))


def hello(group: Group, instance: bytes, session: bytes = bytes(16)) -> Hello:
    return Hello(
        session=session,
        group=group,
        protocols=(1,),
        epoch=bytes(16),
        parentage=None,
        instance=instance,
        serial="ab",
        software="test",
        now_ms=0,
        streams=(),
        down=(),
    )


def test_who_asks_again_keeps_the_place_and_gets_the_new_session() -> None:
    line = Admission()
    first, second = node_of(1), node_of(2)
    for node in (first, second):
        assert line.ask(node, hello(Group.URGENT, bytes(16)))
    again = hello(Group.URGENT, bytes(16), session=b"2" * 16)
    assert line.ask(first, again)
    assert [(node, each.session) for node, each in line.turn()] == [
        (first, again.session),
        (second, bytes(16)),
    ]
    assert line.turn() == []


def test_twins_are_two() -> None:
    line = Admission()
    for instance in (b"1" * 16, b"2" * 16):
        line.ask(node_of(1), hello(Group.URGENT, instance))
    assert len(line.turn()) == 2
    assert not line.waits(node_of(1), Group.URGENT)


def test_urgent_sessions_go_first_and_the_others_are_not_forgotten() -> None:
    line = Admission()
    for number in range(3 * PER_TURN):
        line.ask(node_of(number), hello(Group.BULK, bytes(16)))
    for number in range(3 * PER_TURN):
        line.ask(node_of(number), hello(Group.URGENT, bytes(16)))
    groups = [each.hello.group for each in line.turn()]
    assert groups.count(Group.BULK) == PER_TURN // 4
    assert groups.count(Group.URGENT) == PER_TURN - PER_TURN // 4
    while urgent := [each for each in line.turn() if each.hello.group is Group.URGENT]:
        assert urgent
    assert len(line) < 2 * PER_TURN  # alone, bulk has the whole turn


def test_a_full_line_turns_new_ones_away_and_no_one_who_waits() -> None:
    line = Admission(capacity=2)
    known = [node_of(number) for number in range(2)]
    assert all(line.ask(node, hello(Group.URGENT, bytes(16))) for node in known)
    assert not line.ask(node_of(9), hello(Group.BULK, bytes(16)))
    assert line.ask(known[0], hello(Group.URGENT, bytes(16), session=b"2" * 16))
    line.withdraw(known[1], Group.URGENT, bytes(16))
    line.withdraw(known[1], Group.URGENT, bytes(16))
    assert not line.waits(known[1], Group.URGENT)
    assert line.ask(node_of(9), hello(Group.BULK, bytes(16)))
    line.clear()
    assert len(line) == 0
    assert not line.waits(known[0], Group.URGENT)


# -- a storm

EDGES = 10_000
TURN_SECONDS, HELLO_SECONDS = 0.004, 0.0025
"""A commit, and a hello in it: what the hub needs on a slow machine (docs/scale.md)."""


@dataclass
class Box:
    """One session of a box: it asks, and asks again, until the welcome of its latest hello."""

    node: NodeId
    group: Group
    instance: bytes
    session: bytes = b""
    attempt: int = 0
    welcomed: float | None = None


@dataclass
class Storm:
    """Everybody comes at 0; the hub takes turn after turn."""

    unit: random.Random
    line: Admission = field(default_factory=Admission)
    now: float = 0.0
    answered: int = 0
    longest: int = 0
    _events: list[tuple[float, int, Box]] = field(default_factory=list)
    _order: "count[int]" = field(default_factory=count)

    def run(self, boxes: list[Box]) -> None:
        whose = {(box.node, box.group): box for box in boxes}
        for box in boxes:
            self._later(backoff(0, self.unit.random()), box)
        waiting = len(boxes)
        while waiting:
            self._arrive()
            asked = self.line.turn()
            if not asked:
                self.now = self._events[0][0]
                continue
            self.now += TURN_SECONDS + HELLO_SECONDS * len(asked)
            for node, each in asked:
                box = whose[node, each.group]
                self.answered += 1
                if box.session == each.session and box.welcomed is None:  # else it is an old one
                    box.welcomed = self.now
                    waiting -= 1

    def _arrive(self) -> None:
        while self._events and self._events[0][0] <= self.now:
            at, _, box = heapq.heappop(self._events)
            if box.welcomed is None:
                box.session = self.unit.randbytes(16)
                assert self.line.ask(box.node, hello(box.group, box.instance, box.session))
                self._later(at + backoff(box.attempt, self.unit.random(), base=4.0), box)
                box.attempt += 1
        self.longest = max(self.longest, len(self.line))

    def _later(self, at: float, box: Box) -> None:
        heapq.heappush(self._events, (at, next(self._order), box))


def test_ten_thousand_boxes_at_once_are_all_welcomed_and_nearly_nobody_twice() -> None:
    seed = secrets.randbits(32)
    storm = Storm(random.Random(seed))
    boxes = [
        Box(node_of(number), group, number.to_bytes(16, "big"))
        for number in range(EDGES)
        for group in Group
    ]
    storm.run(boxes)
    work = len(boxes) * (HELLO_SECONDS + TURN_SECONDS / PER_TURN)
    assert storm.now < 1.1 * work + 2, seed  # the hub does what there is to do, once
    assert storm.longest <= len(boxes), seed
    assert storm.answered < 1.02 * len(boxes), seed
    last_urgent = max(box.welcomed or 0 for box in boxes if box.group is Group.URGENT)
    assert last_urgent < 0.75 * work + 3, seed  # alarms flow before the last image does
