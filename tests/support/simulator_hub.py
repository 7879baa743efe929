"""The simulator's hub: the protocol's own pieces around an in-memory database."""

from dataclasses import dataclass, field

from lianzhen_protocol import hello, signing
from lianzhen_protocol.errors import ProtocolError
from lianzhen_protocol.frame import Frame, FrameCodec
from lianzhen_protocol.hello import Ack, Hello, Known, Parentage, Presence, SayHello, Welcome
from lianzhen_protocol.identity import Epoch, epoch
from lianzhen_protocol.lanes import Group, lane_of
from lianzhen_protocol.marks import ForkReason, Position, StreamMark
from lianzhen_protocol.sender import Effect, Forked, Sender
from lianzhen_protocol.short_frame import SHORT, ShortCodec, is_short
from lianzhen_protocol.topics import Channel, Direction, Topic, parse

from .simulator_air import SIGNING_KEY, Air, Letter
from .simulator_box import SILENT_TIMEOUTS
from .simulator_intake import Intake
from .simulator_store import NODE, Inbox, Outbox, Place

CREDIT = 256 << 10
_SAY_HELLO_EVERY = 10.0
_codec, _short = FrameCodec(), ShortCodec()


@dataclass
class Database:
    """All that the hub has on its disks."""

    outbox: Outbox
    inbox: Inbox = field(default_factory=Inbox)
    epochs: dict[Epoch, Parentage | None] = field(default_factory=dict)
    notices: list[hello.Observation] = field(default_factory=list)
    backed_up: dict[Place, int] = field(default_factory=dict)
    """How far each stream lies in a backup."""

    def copy(self) -> "Database":
        """A backup."""
        return Database(
            self.outbox.copy(),
            self.inbox.copy(),
            dict(self.epochs),
            list(self.notices),
            dict(self.backed_up),
        )


@dataclass
class Session:
    """A hello that was answered. The urgent one carries the down streams."""

    id: bytes
    group: Group
    epoch: Epoch
    instance: bytes
    sender: Sender | None
    silent: int = 0


class Hub:
    """One running hub. ``start`` begins it, and begins it again after a crash."""

    def __init__(self, database: Database, air: Air, *, at_once: bool) -> None:
        self.database = database
        self.air = air
        self.at_once = at_once
        """Committed is safe (a synchronous replica); otherwise only what a backup holds is."""
        self.start()

    def start(self) -> None:
        """Everything volatile is new: the hub knows no session, and asks for a hello."""
        self.sessions: dict[tuple[Group, Epoch], Session] = {}
        self.succeeded: set[bytes] = set()
        self.intake = Intake(self.database.inbox)
        self.answers: list[tuple[Topic, bytes]] = []
        self.say_hello_at = self.air.now

    # -- hearing

    def hear(self, letter: Letter) -> None:
        """A message from a box, or what the network made of it."""
        topic = parse(letter.topic)
        try:
            if topic.channel is Channel.STREAM:
                self._framed(topic, letter.payload)
                return
            match hello.decode(letter.payload):
                case Hello() as greeting:
                    self._greeted(greeting)
                case Ack() as ack:
                    self._acknowledged(ack)
                case Presence(instance=instance, group=group):
                    self._gone(instance, group)
                case _:
                    return
        except ProtocolError:
            return  # counted and dropped, in a real hub

    def _framed(self, topic: Topic, wire: bytes) -> None:
        stream = topic.stream or ""
        if is_short(wire):
            short = _short.decode(wire)
            known = (era for group, era in self.sessions if group is lane_of(stream).group)
            if (found := next(filter(short.of, known), None)) is None:
                self._say_hello()
                return
            frame = short.place(found, stream, self.intake.staged((found, stream)))
        else:
            frame = _codec.decode(wire)
        if frame.stream != stream:
            return
        if (lane_of(frame.stream).group, frame.epoch) in self.sessions:
            self.intake.hear(frame)
            self.heard(frame)
        else:
            self._say_hello()

    def heard(self, frame: Frame) -> None:
        """A frame was staged and waits for its commit."""

    def _say_hello(self) -> None:
        self.say_hello_at = self.air.now + _SAY_HELLO_EVERY
        self._publish(Channel.HELLO, hello.encode(SayHello()))

    def _greeted(self, greeting: Hello) -> None:
        chosen = hello.agree(greeting.protocols)
        if chosen is None:
            return
        known = Known(frozenset(self.database.epochs), frozenset(self.succeeded))
        self.database.notices += hello.observe(greeting, known)
        era = epoch(greeting.epoch)
        self.database.epochs.setdefault(era, greeting.parentage)
        self._gone(greeting.instance, greeting.group)
        if before := self.sessions.get((greeting.group, era)):
            self.succeeded.add(before.instance)
        sender = self._down_sender(greeting) if greeting.group is Group.URGENT else None
        session = Session(greeting.session, greeting.group, era, greeting.instance, sender)
        self.sessions[greeting.group, era] = session
        places = [(era, claim.stream) for claim in greeting.streams]
        found = tuple(
            StreamMark(place[1], self.database.inbox.mark(place), self.safe(place))
            for place in places
        )
        welcome = Welcome(
            session=session.id,
            protocol=chosen,
            now_ms=self.air.now_ms,
            credit=CREDIT,
            marks=found,
            frames=SHORT,
        )
        self._publish(Channel.HELLO, signing.sign(SIGNING_KEY, NODE, welcome))

    def _gone(self, instance: bytes, group: Group) -> None:
        for key, session in list(self.sessions.items()):
            if session.instance == instance and session.group is group:
                del self.sessions[key]

    def safe(self, place: Place) -> int:
        """How far the box may delete."""
        at = self.database.inbox.mark(place).seq
        return at if self.at_once else min(at, self.database.backed_up.get(place, 0))

    # -- committing, in steps that a crash may come between

    def commit(self) -> None:
        """Rows and marks in one commit; the answers wait for ``flush``."""
        for (era, stream), gap in self.intake.commit().items():
            self.answer(era, stream, self.database.inbox.mark((era, stream)), gap=gap)

    def answer(self, era: Epoch, stream: str, at: Position, *, gap: bool = False) -> None:
        """Queue an acknowledgement for the session that carries this stream."""
        session = self.sessions.get((lane_of(stream).group, era))
        if session is None:
            return
        safe = min(at.seq, self.safe((era, stream))) if not self.at_once else at.seq
        ack = Ack(
            session=session.id,
            epoch=era,
            now_ms=self.air.now_ms,
            credit=CREDIT,
            marks=(StreamMark(stream, at, safe, gap),),
        )
        wire = signing.sign(SIGNING_KEY, NODE, ack)
        self.answers.append((Topic(NODE, Direction.DOWN, Channel.ACK), wire))

    def flush(self) -> None:
        """Hand the answers to the network."""
        answers, self.answers = self.answers, []
        for topic, payload in answers:
            self.air.down(str(topic), payload)

    def back_up(self) -> Database:
        """What a backup holds is safe; boxes that are connected are told."""
        backup = self.database.copy()
        for place, at in backup.inbox.marks.items():
            self.database.backed_up[place] = max(self.database.backed_up.get(place, 0), at.seq)
            backup.backed_up[place] = at.seq
            self.answer(*place, self.database.inbox.mark(place))
        return backup

    # -- the way down

    def put(self, stream: str, record: bytes) -> None:
        """A record for the box, durable at once."""
        outbox = self.database.outbox
        outbox.append(stream, record, self.air.witness.wrote)
        for session in self.sessions.values():
            if session.sender:
                session.sender.appended(outbox.outgoing(stream))

    def _down_sender(self, greeting: Hello) -> Sender:
        """A sender for one box. Nothing is deleted, so a restored card gets it all again."""
        outbox = self.database.outbox
        found = [
            StreamMark(mark.stream, mark.committed, 0)
            for mark in greeting.down
            if mark.epoch == outbox.epoch
        ]
        sender = self._fresh_sender()
        effects = sender.welcome(found, CREDIT, self.air.now)
        return self._fork() if _forks(effects) else sender

    def _fresh_sender(self) -> Sender:
        outbox = self.database.outbox
        sender = Sender(outbox)
        sender.load(outbox.outgoing(name) for name in outbox.lines)
        return sender

    def _fork(self) -> Sender:
        """A new down epoch, of which no box has anything; a sender for one of them."""
        reason = ForkReason.RECEIVER_AHEAD
        self.database.outbox.fork(self.air.epoch(), reason, self.air.witness.wrote)
        for session in self.sessions.values():
            if session.sender:
                session.sender = self._begun()
        return self._begun()

    def _begun(self) -> Sender:
        sender = self._fresh_sender()
        sender.welcome((), CREDIT, self.air.now)
        return sender

    def _acknowledged(self, ack: Ack) -> None:
        if ack.epoch != self.database.outbox.epoch:
            return
        for session in self.sessions.values():
            if session.id == ack.session and session.sender:
                marks = [StreamMark(m.stream, m.committed, 0, m.gap) for m in ack.marks]
                effects = session.sender.ack(marks, ack.credit, self.air.now)
                session.silent = 0 if effects else session.silent
                if _forks(effects):
                    self._fork()
                return

    def pump(self, frames: int = 1000) -> int:
        """Send at most ``frames`` down; how many it were."""
        count = 0
        for session in self.sessions.values():
            while count < frames and session.sender and (cut := session.sender.cut()):
                before, records = self.database.outbox.read(cut)
                frame = Frame(self.database.outbox.epoch, cut.stream, cut.first, before, records)
                self._publish(Channel.STREAM, _codec.encode(frame), cut.stream)
                session.sender.sent(cut, len(records), sum(map(len, records)), self.air.now)
                count += 1
        return count

    # -- the clock

    def deadline(self) -> float | None:
        """When ``tick`` has something to do."""
        found = [s.sender.deadline for s in self.sessions.values() if s.sender]
        if self._lacks_a_session():
            found.append(self.say_hello_at)
        return min((when for when in found if when is not None), default=None)

    def tick(self) -> None:
        """Repeat what was not answered; ask for a hello while a session is missing."""
        for key, session in list(self.sessions.items()):
            if session.sender and session.sender.tick(self.air.now):
                session.silent += 1
                if session.silent >= SILENT_TIMEOUTS:
                    del self.sessions[key]
        if self._lacks_a_session() and self.air.now >= self.say_hello_at:
            self._say_hello()

    def _lacks_a_session(self) -> bool:
        return {group for group, _ in self.sessions} != set(Group)

    def _publish(self, channel: Channel, payload: bytes, stream: str | None = None) -> None:
        self.air.down(str(Topic(NODE, Direction.DOWN, channel, stream)), payload)


def _forks(effects: list[Effect]) -> bool:
    return any(isinstance(effect, Forked) for effect in effects)
