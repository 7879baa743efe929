"""The simulator's edge box: the protocol's own pieces around an in-memory journal."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from lianzhen_protocol import hello, signing
from lianzhen_protocol.errors import ProtocolError, SignatureInvalid
from lianzhen_protocol.frame import Frame, FrameCodec
from lianzhen_protocol.hello import Ack, DownMark, Hello, Refused, SayHello, StreamClaim, Welcome
from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.lanes import MIN_SHARE, Group, Lane, lane_of
from lianzhen_protocol.marks import ForkReason, Position, StreamMark
from lianzhen_protocol.retry import backoff
from lianzhen_protocol.sender import Advanced, Effect, Forked, Outgoing, Sender
from lianzhen_protocol.short_frame import MAX_SHORT_BYTES, SHORT, ShortCodec
from lianzhen_protocol.topics import Channel, Direction, Topic, parse

from .simulator_air import SIGNING_KEY, Air, ForkEvent, Letter
from .simulator_intake import Intake
from .simulator_store import NODE, Inbox, Outbox

SILENT_TIMEOUTS = 3
"""Time-outs in a row after which a session is given up (docs/protocol.md, 7.5)."""

RENEWAL_SECONDS = 3600.0
"""After this long a session that holds something unsafe begins anew (docs/protocol.md, 3.5)."""

_QUANTUM = 4096
_TRUSTED = SIGNING_KEY.public_key()
_codec, _short = FrameCodec(), ShortCodec()


@dataclass
class Card:
    """All that a box has on its card. ``witness`` is the test's note, and no part of the box."""

    outbox: Outbox
    hardware: str
    inbox: Inbox = field(default_factory=Inbox)
    witness: list[tuple[str, bytes]] = field(default_factory=list)
    """(stream, record) of every put that this card's history acknowledged."""
    lost: dict[Epoch, set[bytes]] = field(default_factory=dict)
    """Records that the hub lost under this card's feet, by the epoch that must be left."""

    def copy(self) -> "Card":
        """An image of the card."""
        lost = {epoch: set(records) for epoch, records in self.lost.items()}
        return Card(self.outbox.copy(), self.hardware, self.inbox.copy(), list(self.witness), lost)


class Line:
    """One session group of a box: from hello to hello."""

    def __init__(self, group: Group, session: bytes, outbox: Outbox, due: float) -> None:
        self.group = group
        self.session = session
        self.welcomed = False
        self.due = due
        self.silent = 0
        self.renewal = 0.0
        self.sender = Sender(outbox)
        self.takes_short = False
        self.streams: dict[str, Outgoing] = {}
        self.hunger: dict[Lane, float] = {}
        self.largest = 0

    def served(self, lane: Lane, size: int) -> None:
        """Check that no waiting lane is kept waiting beyond its minimum share."""
        self.largest = max(self.largest, size)
        waiting = {s.lane for s in self.streams.values() if s.welcomed and s.sent < s.last}
        self.hunger = {
            other: self.hunger.get(other, 0.0) + size for other in waiting if other is not lane
        }
        for other, bytes_past in self.hunger.items():
            patience = 2 * _QUANTUM / MIN_SHARE[other] + (len(waiting) + 2) * self.largest
            assert bytes_past <= patience, (
                f"{other.name} waits while {bytes_past:.0f} bytes of others went out"
            )


class Box:
    """One running program on one card. ``start`` begins it, and begins it again after a crash."""

    def __init__(self, number: int, card: Card, hardware: str, air: Air) -> None:
        self.number = number
        self.card = card
        self.hardware = hardware
        self.air = air
        self.start()

    def start(self) -> None:
        """Everything volatile is new; a journal from another machine forks before it speaks."""
        self.instance = self.air.rng.randbytes(16)
        self.pending: list[tuple[str, bytes]] = []
        self.intake = Intake(self.card.inbox)
        self.tries = dict.fromkeys(Group, 0)
        self.lines: dict[Group, Line] = {}
        if self.card.hardware != self.hardware:
            self.card.hardware = self.hardware
            self._fork(ForkReason.FOREIGN_HARDWARE)
        for group in Group:
            self.connect(group)

    # -- the clinic's side

    def put(self, stream: str, record: bytes) -> None:
        """A record for the journal; acknowledged at the next commit."""
        self.pending.append((stream, record))

    def acknowledge(self, stream: str, record: bytes) -> None:
        """The caller is told that the record is durable."""
        self.card.witness.append((stream, record))

    def commit(self) -> None:
        """One commit of all that waits; only then is anybody told."""
        pending, self.pending = self.pending, []
        for stream, record in pending:
            if self.card.outbox.append(stream, record, self.air.witness.wrote):
                self.acknowledge(stream, record)
        for stream in dict.fromkeys(stream for stream, _ in pending):
            self._appended(stream)
        for (epoch, stream), gap in self.intake.commit().items():
            at = self.card.inbox.mark((epoch, stream))
            self._send_ack(epoch, StreamMark(stream, at, at.seq, gap))

    def _appended(self, stream: str) -> None:
        line = self.lines[lane_of(stream).group]
        found = line.streams.setdefault(stream, self.card.outbox.outgoing(stream))
        found.last = self.card.outbox.lines[stream].last
        line.sender.appended(found)

    def _send_ack(self, epoch: Epoch, mark: StreamMark) -> None:
        session = self.lines[Group.URGENT].session
        answer = Ack(
            session=session, epoch=epoch, now_ms=self.air.now_ms, credit=1 << 20, marks=(mark,)
        )
        self.air.up(str(Topic(NODE, Direction.UP, Channel.ACK)), hello.encode(answer))

    # -- sessions

    def connect(self, group: Group) -> None:
        """Begin a session: nothing is sent in it until it is welcomed."""
        session = self.air.rng.randbytes(16)
        wait = backoff(self.tries[group], self.air.rng.random(), base=4.0)
        self.tries[group] += 1
        outbox = self.card.outbox
        line = self.lines[group] = Line(group, session, outbox, self.air.now + wait)
        names = [name for name in outbox.lines if lane_of(name).group is group]
        line.streams = {name: outbox.outgoing(name) for name in names}
        line.sender.load(line.streams.values())
        claims = (
            StreamClaim(name, Position(stream.last, outbox.lines[name].hash_at(stream.last) or b""),
                        stream.safe)
            for name, stream in line.streams.items()
            if stream.last > stream.safe
        )  # fmt: skip
        greeting = Hello(
            session=session,
            group=group,
            protocols=hello.PROTOCOLS,
            epoch=outbox.epoch,
            parentage=outbox.parentage,
            instance=self.instance,
            serial="01",
            software="simulated",
            now_ms=self.air.now_ms,
            streams=tuple(claims),
            down=tuple(self._down_marks()) if group is Group.URGENT else (),
        )
        self.air.up(str(Topic(NODE, Direction.UP, Channel.HELLO)), hello.encode(greeting))

    def _down_marks(self) -> Iterable[DownMark]:
        for (epoch, stream), position in self.card.inbox.marks.items():
            yield DownMark(epoch, stream, position)

    def hear(self, letter: Letter) -> None:
        """A message from the hub, or what the network made of it."""
        topic = parse(letter.topic)
        try:
            if topic.channel is Channel.STREAM:
                frame = _codec.decode(letter.payload)
                if frame.stream == topic.stream:
                    self.intake.hear(frame)
                return
            self._answered(hello.decode(letter.payload))
        except ProtocolError:
            return  # counted and dropped, in a real box

    def _answered(self, message: hello.Message) -> None:
        if isinstance(message, SayHello):
            for line in list(self.lines.values()):
                if line.welcomed:
                    self.connect(line.group)
        elif isinstance(message, hello.Signed):
            self._told(signing.verify(_TRUSTED, NODE, message))
        else:
            raise SignatureInvalid("an answer that nobody signed")

    def _told(self, answer: Welcome | Ack | Refused) -> None:
        line = next((x for x in self.lines.values() if x.session == answer.session), None)
        match answer:
            case Welcome() if line and not line.welcomed:
                effects = line.sender.welcome(answer.marks, answer.credit, self.air.now)
                line.welcomed, self.tries[line.group] = True, 0
                line.takes_short = answer.frames >= SHORT
                line.renewal = self.air.now + RENEWAL_SECONDS
            case Ack() if line and line.welcomed and answer.epoch == self.card.outbox.epoch:
                effects = line.sender.ack(answer.marks, answer.credit, self.air.now)
            case _:
                return
        self._apply(line, effects)

    def _apply(self, line: Line, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Advanced(stream, committed, safe):
                    line.silent = 0
                    self.card.outbox.advance(stream, committed, self.deletable(committed, safe))
                case Forked(_, reason, _):
                    self._fork(reason)
                    for group in Group:
                        self.connect(group)
                    return

    def deletable(self, committed: int, safe: int) -> int:
        """How far rows may be deleted: what the hub called safe, and no more."""
        return min(committed, safe)

    def _fork(self, reason: ForkReason) -> None:
        outbox, fresh = self.card.outbox, self.air.epoch()
        self.air.witness.forks[fresh] = ForkEvent(outbox.epoch, reason)
        outbox.fork(fresh, reason, self.air.witness.wrote)

    # -- sending, and the clock

    def pump(self, frames: int = 1000) -> int:
        """Send at most ``frames``, as far as windows allow; how many it were."""
        count = 0
        for line in self.lines.values():
            while count < frames and line.welcomed and (cut := line.sender.cut()):
                before, records = self.card.outbox.read(cut)
                frame = Frame(self.card.outbox.epoch, cut.stream, cut.first, before, records)
                topic = Topic(NODE, Direction.UP, Channel.STREAM, cut.stream)
                size = sum(map(len, records))
                short = line.takes_short and cut.fresh and size <= MAX_SHORT_BYTES
                self.air.up(str(topic), (_short if short else _codec).encode(frame))
                line.sender.sent(cut, len(records), size, self.air.now)
                line.served(cut.lane, size)
                count += 1
        return count

    def deadline(self) -> float | None:
        """When ``tick`` has something to do."""
        found = [
            line.sender.deadline if line.welcomed else line.due for line in self.lines.values()
        ]
        return min((when for when in found if when is not None), default=None)

    def tick(self, known: Iterable[bytes]) -> None:
        """Repeat what was not answered. ``known``: the hub's sessions, for the witness."""
        for line in list(self.lines.values()):
            if not line.welcomed and self.air.now >= line.due:
                self.connect(line.group)
            elif line.welcomed and line.sender.tick(self.air.now):
                line.silent += 1
                if line.silent >= SILENT_TIMEOUTS:
                    if self.air.healed and self.air.boxes == 1 and line.session in known:
                        self.air.witness.needless_hellos += 1
                    self.connect(line.group)
            elif line.welcomed and self.air.now >= line.renewal and self._holds_some(line.group):
                self.connect(line.group)

    def _holds_some(self, group: Group) -> bool:
        lines = self.card.outbox.lines
        return any(line.rows for name, line in lines.items() if lane_of(name).group is group)
