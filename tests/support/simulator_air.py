"""What boxes and hub share in the simulator: the network, the clock, the dice and the witness."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.marks import ForkReason

from .simulator_store import Place

HUB = -1
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class Letter(NamedTuple):
    """A message on its way: ``to`` is a box's number, or HUB."""

    to: int
    topic: str
    payload: bytes


class ForkEvent(NamedTuple):
    """A writer left an epoch."""

    parent: Epoch
    reason: ForkReason


@dataclass
class Witness:
    """Remembers everything, crashes of nobody touch it, and no machine asks it anything."""

    chains: dict[Place, dict[bytes, tuple[bytes, bytes]]] = field(default_factory=dict)
    """Per stream: hash after a record -> (hash before it, the record), of every writer ever."""
    forks: dict[Epoch, ForkEvent] = field(default_factory=dict)
    forgiven: set[bytes] = field(default_factory=set)
    """Records that the hub lost after it had called them safe."""
    needless_hellos: int = 0
    """Sessions given up on a healed network although the hub knew them."""

    def wrote(self, place: Place, before: bytes, record: bytes, after: bytes) -> None:
        """A writer put ``record`` into a stream."""
        self.chains.setdefault(place, {})[after] = (before, record)


class Air:
    """The network between them. Letters lie here until the schedule delivers or loses them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 1_000.0
        self.letters: list[Letter] = []
        self.witness = Witness()
        self.boxes = 1
        self.healed = False

    @property
    def now_ms(self) -> int:
        """The time in ms, for messages."""
        return int(self.now * 1000)

    def up(self, topic: str, payload: bytes) -> None:
        """From a box to the hub."""
        self.letters.append(Letter(HUB, topic, payload))

    def down(self, topic: str, payload: bytes) -> None:
        """From the hub to every program that listens under this node's name."""
        self.letters.extend(Letter(number, topic, payload) for number in range(self.boxes))

    def epoch(self) -> Epoch:
        """A fresh epoch."""
        return Epoch(self.rng.randbytes(16))
