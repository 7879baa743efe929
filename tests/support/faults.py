"""Schedules of faults: pure data that a seed makes, so that a seed is all that a failure needs.

A schedule is a few steps; each lets the clinic work and one fault strike meanwhile. They are played
on the real programs by ``fleet_of_faults``.
"""

import random
from typing import Final, NamedTuple

from .meddler import LATER_SESSION, Twist, Way
from .mortal import WRITES

CORE, SCP, HUB, BROKER, DATABASE = "core", "scp", "hub", "broker", "database"

STREAMS: Final = ("alarm.fault", "record.fault", "vitals.fault", "telemetry.fault")
"""Of both groups of lanes."""


class Kill(NamedTuple):
    """SIGKILL when ``after`` more records are at the hub."""

    victim: str
    after: int


class Boundary(NamedTuple):
    """SIGKILL at the ``passing``-th passing of a boundary of ``mortal``."""

    victim: str
    boundary: str
    passing: int


class SystemCall(NamedTuple):
    """SIGKILL as one of its threads begins its ``number``-th ``call``; by strace."""

    victim: str
    call: str
    number: int


class Cut(NamedTuple):
    """Both broker sessions end within a packet, so many bytes from now."""

    way: Way
    after: int


class UploadCut(NamedTuple):
    """The HTTPS connections end, so many bytes from now."""

    after: int


class HalfOpen(NamedTuple):
    """What goes these ways is lost, and no connection ends before ``seconds``."""

    ways: tuple[Way, ...]
    seconds: float


class Ghost(NamedTuple):
    """The broker believes in the box's sessions for so long after the box has lost them."""

    seconds: float


class Meddling(NamedTuple):
    """Messages are lost, doubled, overtaken, late, or come back in a later session."""

    twists: tuple[Twist, ...]


class Wipe(NamedTuple):
    """Hub and broker die, and of the broker nothing is left."""


class Nothing(NamedTuple):
    """To see what a step passes undisturbed."""


Fault = (
    Nothing | Kill | Boundary | SystemCall | Cut | UploadCut | HalfOpen | Ghost | Meddling | Wipe
)


class Work(NamedTuple):
    """What the clinic does in a step."""

    puts: tuple[tuple[str, int, int], ...]
    """(stream, records, bytes of text in each)"""
    images: int = 0
    side: int = 64
    patients: int = 0
    """Registered at the console, each by a POST with an id that is made here."""
    poison: int = 0
    """Records that the hub must refuse, each by a word that goes down."""


class Step(NamedTuple):
    """Work, and what happens to it."""

    faults: tuple[Fault, ...]
    work: Work


class Schedule(NamedTuple):
    """All of one seed."""

    seed: int
    steps: tuple[Step, ...]
    box_dies_last: bool = True
    """So that it waits for no pause that it earned; or it must come to rest by itself."""

    def __str__(self) -> str:
        lines = [f"  {number}. {' and '.join(map(str, step.faults))}  while {step.work}"
                 for number, step in enumerate(self.steps)]  # fmt: skip
        lines += ["  the box dies"] if self.box_dies_last else []
        return "\n".join([f"seed {self.seed}:", *lines])


PASSED: Final[dict[str, dict[str, int]]] = {
    CORE: {"send": 20, "commit": 20, "answer": 15, "ask": 3, "publish hello": 2,
           "publish ack": 2, "publish stream": 8, "hear hello": 2, "hear ack": 8, "hear stream": 2},
    SCP: {"write": 3, "sync": 3, "rename": 1, "dimse": 3, "hear dimse": 20, "notice": 2},
    HUB: {"send": 16, "sync": 5, "rename": 1, "commit": 12, "answer": 4, "publish hello": 2,
          "publish ack": 5, "publish stream": 2, "hear hello": 2, "hear ack": 2, "hear stream": 8},
}  # fmt: skip
"""How often a step of work passes each boundary, at the least (test_faults_long)."""

HELLO: Final = "hello"
"""A boundary that is passed only when a session begins."""

_CALLS: Final = {
    CORE: (("fdatasync", 8), ("pwrite64", 60), ("write", 20)),
    HUB: (("fdatasync", 8), ("pwrite64", 60)),
    BROKER: (("write", 30), ("read", 60), ("epoll_wait", 60)),
}

_LARGE: Final = 400
"""A side of an image that is more than a chunk of the upload."""

_LARGEST: Final = 1600
"""A side of an image that is more than a page of the segment log: it has a segment of its own."""

_OF_IMAGES: Final = ("ask", "sync", "rename")
_FATES: Final[tuple[tuple[int, ...], ...]] = (
    *((), (0, 0), (0, 0, 0), (1,), (3,), (0, 2), (0, 5)),
    *((LATER_SESSION,), (0, LATER_SESSION)),
)


def schedule(seed: int, steps: int = 3) -> Schedule:
    """The schedule of a seed."""
    chance = random.Random(seed)
    found = tuple(_step(chance) for _ in range(steps))
    return Schedule(seed, found, box_dies_last=chance.random() < 0.7)


def with_database(found: Schedule) -> Schedule:
    """The same where the hub's tables lie in PostgreSQL: that dies where the hub would."""

    def other(fault: Fault) -> Fault:
        if isinstance(fault, Kill) and fault.victim == HUB:
            return fault._replace(victim=DATABASE)
        return fault

    steps = (step._replace(faults=tuple(map(other, step.faults))) for step in found.steps)
    return found._replace(steps=tuple(steps))


def _step(chance: random.Random) -> Step:
    kinds = (
        _boundary,
        _system_call,
        _kill,
        _cut,
        _upload_cut,
        _half_open,
        _ghost,
        _meddling,
        _wipe,
    )
    work = _work(chance)
    made = chance.choices(kinds, (30, 8, 10, 12, 6, 8, 6, 18, 2), k=chance.choice((1, 1, 2)))
    faults = tuple(make(chance, work) for make in dict.fromkeys(made))
    if any(map(_is_of_images, faults)):
        side = chance.choice((_LARGE, _LARGE, _LARGEST))
        work = work._replace(images=chance.randrange(1, 3), side=side)
    if any(isinstance(fault, (Boundary, SystemCall)) for fault in faults):
        work = work._replace(patients=max(1, work.patients), poison=1)
    return Step(faults, work)


def _is_of_images(fault: Fault) -> bool:
    """Nothing of it would happen without one."""
    if isinstance(fault, Boundary) and fault.boundary.partition(":")[0] in _OF_IMAGES:
        return True
    return isinstance(fault, UploadCut) or getattr(fault, "victim", "") == SCP


def _work(chance: random.Random) -> Work:
    streams = chance.sample(STREAMS, chance.randrange(1, 4))
    puts = tuple(
        (stream, chance.choice((1, 7, 60, 200)), chance.choice((20, 200, 2000)))
        for stream in streams
    )
    return Work(
        puts,
        images=chance.choice((0, 0, 1, 2)),
        side=chance.choice((64, _LARGE)),
        patients=chance.choice((0, 1, 2)),
        poison=chance.choice((0, 0, 1)),
    )


def _boundary(chance: random.Random, _work: Work) -> Fault:
    victim = chance.choice((CORE, CORE, HUB, HUB, SCP))
    operation, passed = chance.choice(sorted(PASSED[victim].items()))
    moment = chance.choice(("before", "after", *(("half",) if operation in WRITES else ())))
    return Boundary(victim, f"{operation}: {moment}", 1 + int(passed * chance.random() ** 2))


def _system_call(chance: random.Random, _work: Work) -> Fault:
    victim = chance.choice((CORE, HUB, BROKER, BROKER))
    call, most = chance.choice(_CALLS[victim])
    return SystemCall(victim, call, 1 + int(most * chance.random() ** 2))


def _kill(chance: random.Random, work: Work) -> Fault:
    most = sum(count for _, count, _ in work.puts)
    return Kill(chance.choice((CORE, SCP, HUB, BROKER)), chance.randrange(0, most + 1))


def _cut(chance: random.Random, work: Work) -> Fault:
    way: Way = "up" if chance.random() < 0.5 else "down"
    return Cut(way, chance.randrange(1, 200 + 20 * sum(count for _, count, _ in work.puts)))


def _upload_cut(chance: random.Random, _work: Work) -> Fault:
    return UploadCut(chance.randrange(1, _LARGE * _LARGE * 2))


def _half_open(chance: random.Random, _work: Work) -> Fault:
    ways: tuple[Way, ...] = chance.choice((("up",), ("down",), ("up", "down")))
    return HalfOpen(ways, chance.choice((0.3, 1.0, 2.5)))


def _ghost(chance: random.Random, _work: Work) -> Fault:
    return Ghost(chance.choice((0.2, 1.0, 3.0)))


def _meddling(chance: random.Random, _work: Work) -> Fault:
    places: list[tuple[Way, int]] = [
        *(("up", at) for at in range(5)),
        *(("down", at) for at in range(4)),
    ]
    chosen = sorted(chance.sample(places, chance.randrange(1, 6)))
    return Meddling(tuple(Twist(way, at, chance.choice(_FATES)) for way, at in chosen))


def _wipe(_chance: random.Random, _work: Work) -> Fault:
    return Wipe()
