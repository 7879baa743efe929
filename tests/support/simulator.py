"""Boxes and a hub on a bad network: one object that a schedule of any kind can drive.

The machines are made of the protocol's own pieces (``Sender``, ``receive``, frames, hellos,
marks, signatures) around stores with explicit commits. Nothing here sleeps, opens a socket or
reads a clock, so a schedule is a list of calls and can be replayed.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from lianzhen_protocol import kinds
from lianzhen_protocol.hello import Presence, encode
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.records import DiagnosticNote
from lianzhen_protocol.topics import Channel, Direction, Topic

from .simulator_air import HUB, Air
from .simulator_box import RENEWAL_SECONDS, Box, Card
from .simulator_hub import Database, Hub
from .simulator_store import NODE, Outbox

UP_STREAMS: Final = (
    "alarm", "consultation.7", "record", "vitals.ward-2", "preview", "telemetry",
)  # fmt: skip
DOWN_STREAMS: Final = ("consultation.7", "record")
KINDS: Final = ("note", "newer", "unknown", "major", "garbage")
POISON: Final = {
    "unknown": "record-kind-unknown",
    "major": "record-version",
    "garbage": "record-malformed",
}
"""Kind of record made by ``World.record`` -> code under which it must lie in quarantine."""

_PATIENCE = 400
"""Rounds in which a healed network must come to rest."""


class World:
    """One node: a hub, one box or (cloned) two, and the air between them."""

    def __init__(
        self, seed: int, *, at_once: bool = True, box: type[Box] = Box, hub: type[Hub] = Hub
    ) -> None:
        self.air = Air(seed)
        self._box = box
        database = Database(Outbox(self.air.epoch()))
        self.hub = hub(database, self.air, at_once=at_once)
        self.backup = database.copy()
        self.old_backups = [database.copy()]
        self.boxes = [box(0, Card(Outbox(self.air.epoch()), "board-0"), "board-0", self.air)]
        self.images: list[Card] = []
        self.poison: dict[bytes, str] = {}
        self.made = 0

    # -- what people do

    def record(self, kind: str, size: int = 0) -> bytes:
        """A record of one of KINDS, never the same twice; poison is noted."""
        self.made += 1
        text = f"{self.made} " + "." * size
        identity = uuid7(self.air.now_ms, self.air.rng.randbytes(10))
        now = self.air.now_ms
        if kind == "note":
            return kinds.encode(DiagnosticNote(text=text), identity, now)
        body = msgspec.msgpack.encode({"text": text, "added_later": 1})
        name, major, minor = {
            "newer": ("diagnostic.note", 1, 7),
            "unknown": ("diagnostic.unheard-of", 1, 0),
            "major": ("diagnostic.note", 3, 0),
            "garbage": ("", 0, 0),
        }[kind]
        wire = msgspec.msgpack.encode((identity, name, major, minor, now, body, "added later"))
        if kind == "garbage":
            wire = b"\xc1" + wire
        if kind in POISON:
            self.poison[wire] = POISON[kind]
        return wire

    # -- what the network does

    def deliver(self, at: int) -> None:
        """Let one letter arrive."""
        letter = self.air.letters.pop(at)
        if letter.to == HUB:
            self.hub.hear(letter)
        else:
            self.boxes[letter.to].hear(letter)

    def deliver_all(self) -> None:
        """Let everything that is under way now arrive, in order."""
        for _ in range(len(self.air.letters)):
            self.deliver(0)

    # -- what fails

    def crash_box(self, number: int, *, will: bool = True) -> None:
        """A box loses power; the broker publishes its will."""
        box = self.boxes[number]
        if will:
            for group in Group:
                presence = Presence(instance=box.instance, group=group)
                topic = Topic(NODE, Direction.UP, Channel.PRESENCE)
                self.air.up(str(topic), encode(presence))
        box.start()

    def crash_hub(self, database: Database | None = None) -> None:
        """The hub loses power; it comes back with its own disks, or with those given."""
        self.hub.database = database or self.hub.database
        self.hub.start()

    def restore_box(self, number: int, image: Card) -> None:
        """A box goes on with an older image of its card: what that lacks is gone."""
        self.boxes[number].card = image.copy()
        self.crash_box(number)

    def clone_box(self, hardware: str) -> None:
        """A second box starts on a copy of the first one's card."""
        self.air.boxes = 2
        self.boxes.append(self._box(1, self.boxes[0].card.copy(), hardware, self.air))

    def back_up(self) -> None:
        """The hub takes a backup: what it holds is safe from now on."""
        self.backup = self.hub.back_up()
        self.old_backups.append(self.backup.copy())

    def restore_hub(self) -> None:
        """The hub comes back from its last backup, or from its replica, which lacks nothing."""
        self.crash_hub(None if self.hub.at_once else self.backup.copy())

    def lose_hub(self, backup: Database) -> None:
        """The hub comes back from a backup so old that things called safe are lost."""
        held = set(backup.inbox.records())
        lost = self.safe_records() - held
        self.air.witness.forgiven |= lost
        for box in self.boxes:
            outbox = box.card.outbox
            for name, line in outbox.lines.items():
                place = (outbox.epoch, name)
                missed = self.hub.database.inbox.between(
                    place, backup.inbox.mark(place).seq, line.safe
                )
                box.card.lost.setdefault(outbox.epoch, set()).update(missed)
        self.backup = backup.copy()
        self.crash_hub(backup.copy())

    def safe_records(self) -> set[bytes]:
        """What no ordinary failure of the hub can lose."""
        safe = self.hub.database if self.hub.at_once else self.backup
        return set(safe.inbox.records())

    # -- time

    def tick(self) -> None:
        """Let every machine look at the clock."""
        known = {session.id for session in self.hub.sessions.values()}
        for box in self.boxes:
            box.tick(known)
        self.hub.tick()

    def work(self) -> int:
        """Everybody commits, answers and sends once; how many frames went out."""
        sent = 0
        for box in self.boxes:
            box.commit()
            sent += box.pump()
        self.hub.commit()
        self.hub.flush()
        return sent + self.hub.pump()

    def round(self) -> bool:
        """A round on a perfect network; False if nothing happened in it."""
        letters = len(self.air.letters)
        self.deliver_all()
        sent = self.work()
        projected = False
        for inbox in (self.hub.database.inbox, *(box.card.inbox for box in self.boxes)):
            while inbox.project():
                projected = True
        return bool(letters or sent or self.air.letters or projected)

    def wait(self) -> bool:
        """Let time pass to the next deadline; False if nobody has one."""
        deadlines = [self.hub.deadline(), *(box.deadline() for box in self.boxes)]
        due = [when for when in deadlines if when is not None]
        if due:
            self.air.now = max(self.air.now, min(due)) + 0.001
            self.tick()
        return bool(due)

    def settle(self, check: Callable[[], None]) -> None:
        """Run a perfect network until nothing moves, in bounded steps; ``check`` after each.

        Then once more after the time in which every session was renewed: a box at rest learns
        so that a restored hub forgot it.
        """
        self.air.healed = True
        for box in self.boxes:
            for line in box.lines.values():
                line.silent = 0
        renewed = False
        for _ in range(_PATIENCE):
            moved = self.round()
            check()
            if not moved and not self.wait():
                if renewed:
                    self.air.healed = False
                    return
                renewed = True
                self.air.now += RENEWAL_SECONDS + 1
                self.tick()
            self.air.now += 0.01
        raise AssertionError(f"no rest after {_PATIENCE} rounds: a livelock")
