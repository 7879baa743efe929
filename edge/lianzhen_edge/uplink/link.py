"""One session with the hub: hello, then frames up and acknowledgements down, until it ends.

Decides nothing itself: ``protocol.sender`` says what to send and what an answer means, the
journal holds the records. This is the plumbing between them and the socket.
"""

import asyncio
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from lianzhen_edge import __version__
from lianzhen_edge.journal.errors import JournalError
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import hello as messages
from lianzhen_protocol import signing, topics
from lianzhen_protocol.errors import ProtocolError, SealBroken
from lianzhen_protocol.frame import Frame, FrameCodec
from lianzhen_protocol.hello import Ack, Hello, Presence, Refused, SayHello, Signed, Welcome
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group, lane_of
from lianzhen_protocol.marks import ForkReason, StreamMark
from lianzhen_protocol.receiver import Accepted, receive
from lianzhen_protocol.sender import Advanced, Cut, Effect, Forked, Sender
from lianzhen_protocol.short_frame import MAX_SHORT_BYTES, SHORT, ShortCodec
from lianzhen_protocol.topics import Channel, Direction, Topic
from lianzhen_runtime import mqtt
from lianzhen_runtime.log import Log
from lianzhen_runtime.retry import pause
from lianzhen_runtime.signer import SignerTrust

from .tail import Tail
from .traffic import Traffic

SILENT_TIMEOUTS = 3
"""After so many time-outs in a row without progress, the session is begun anew."""

UNHEARD_SECONDS = 0.5
"""A say-hello that comes so long after our hello means that it was not heard."""

RENEWAL_SECONDS = 3600.0
"""A session that holds something not yet safe is begun anew after this."""

_log = Log("lianzhen.uplink")


class Timekeeper(Protocol):
    """The box's trusted clock, as far as a session needs it."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""

    def learn(self, now_ms: int) -> None:
        """Take over a time that the hub signed."""


class Credentials(NamedTuple):
    """Who we are to the hub for the length of a session."""

    node: NodeId
    serial: str
    address: mqtt.Address
    trust: SignerTrust
    context: Callable[[], ssl.SSLContext]


class LinkStatus(msgspec.Struct, kw_only=True):
    """One session as status pages and metrics show it."""

    group: Group
    state: str = "offline"
    code: str | None = None
    detail: str | None = None
    since_ms: int = 0
    round_trip_s: float | None = None
    in_flight_bytes: int = 0
    frames: int = 0
    frame_bytes: int = 0
    record_bytes: int = 0
    records: int = 0
    timeouts: int = 0
    forks: int = 0
    set_back_records: int = 0
    """Records that the hub once had and has no more: it was restored, and they are sent again."""
    set_back_ms: int = 0


class Link:
    """The session of one group of lanes. ``run`` it for as long as there is something to carry."""

    def __init__(
        self,
        group: Group,
        journal: Journal,
        credentials: Credentials,
        clock: Timekeeper,
        instance: bytes,
        moved: Callable[[Epoch, Iterable[Advanced]], None],
        welcomed: Callable[[Group], None] = lambda _: None,
    ) -> None:
        self._group = group
        self._journal = journal
        self._who = credentials
        self._clock = clock
        self._instance = instance
        self._moved = moved
        self._told_welcome = welcomed
        self._codec, self._short = FrameCodec(), ShortCodec()
        self._takes_short = False
        self._wake = asyncio.Event()
        self._inbox: deque[tuple[Topic, bytes]] = deque()
        self._grown: set[str] = set()
        self._sender, self._tail = Sender(journal), Tail()
        self._silent = 0
        self._greeted_at = self._renew_at = 0.0
        self._session = b""
        self._epoch = Epoch(b"")
        self._renewed = False
        self.status = LinkStatus(group=group)
        self.traffic = Traffic()
        journal.on_append(self._appended)

    def sent(self, stream: str) -> int:
        """How far a stream of this session was handed to the line."""
        return self._sender.sent_up_to(stream)

    def renew(self, credentials: Credentials) -> None:
        """Go on under a new certificate: the session is begun anew."""
        self._who, self._renewed = credentials, True
        self._wake.set()

    async def probe(self) -> None:
        """LinkLost if nobody is there."""
        await mqtt.probe(self._who.address)

    async def run(self) -> None:
        """Hold one MQTT session until it is lost: LinkLost then says why."""
        will = Presence(instance=self._instance, group=self._group)
        presence = Topic(self._who.node, Direction.UP, Channel.PRESENCE)
        client_id = f"{self._who.node}.{self._group}.{secrets.token_hex(16)}"
        self._enter("connecting")
        self._renewed = False
        try:
            async with mqtt.session(
                self._who.address,
                client_id,
                self._who.context(),
                self._received,
                will=mqtt.Will(str(presence), messages.encode(will)),
            ) as line:
                line.closed.add_done_callback(lambda _: self._wake.set())
                for topic in self._subscriptions():
                    await line.subscribe(topic)
                while True:
                    await self._greet(line)
                    await self._converse(line)
        except mqtt.LinkLost as lost:
            self._enter("offline", lost.code, str(lost))
            raise
        finally:
            self._inbox.clear()

    # -- hello

    async def _greet(self, line: mqtt.Session) -> None:
        """Say hello until the hub welcomes us; it may be down while the broker is up."""
        attempt = 0
        while True:
            opening = self._journal.opening(self._group)
            self._session, self._epoch = secrets.token_bytes(16), opening.epoch
            self._sender, self._tail = Sender(self._journal), Tail()
            self._sender.load(opening.streams)
            self._enter("greeting")
            greeting = Hello(
                session=self._session,
                group=self._group,
                protocols=messages.PROTOCOLS,
                epoch=opening.epoch,
                parentage=opening.parentage,
                instance=self._instance,
                serial=self._who.serial,
                software=__version__,
                now_ms=int(self._clock.now() * 1000),
                streams=tuple(opening.claims),
                down=tuple(opening.down),
            )
            self._grown.clear()
            self._greeted_at = time.monotonic()
            line.publish(self._topic(Channel.HELLO), messages.encode(greeting))
            try:
                async with asyncio.timeout(pause(attempt, base=4.0)):
                    if await self._welcomed(line):
                        return
            except TimeoutError:
                attempt += 1

    async def _welcomed(self, line: mqtt.Session) -> bool:
        """Wait for the answer to our hello. False: say hello anew, as the journal forked, or the
        hub, which has just come up, never heard it.
        """
        while True:
            answer = await self._next_answer(line)
            match answer:
                case Welcome(session=self._session):
                    self._clock.learn(answer.now_ms)
                    now = time.monotonic()
                    self._compare(answer.marks)
                    effects = self._sender.welcome(answer.marks, answer.credit, now)
                    if not await self._apply(effects):
                        return False
                    self._silent, self._renew_at = 0, now + RENEWAL_SECONDS
                    self._takes_short = answer.frames >= SHORT
                    self._enter("online")
                    self._told_welcome(self._group)
                    return True
                case Refused(session=self._session):
                    self._enter("refused", answer.code, answer.reason)
                case SayHello():
                    return False
                case _:
                    pass  # of an earlier session

    def _compare(self, found: Iterable[StreamMark]) -> None:
        """Say so where the hub is back at an earlier state."""
        marks = {mark.stream: mark.committed.seq for mark in found}
        known = self._journal.streams(marks)
        lost = sum(max(0, each.committed - marks[each.name]) for each in known)
        if lost:
            _log.warning(
                "the hub is back at an earlier state, what it lacks is sent again",
                group=self._group, records=lost,
            )  # fmt: skip
            self.status.set_back_records += lost
            self.status.set_back_ms = int(self._clock.now() * 1000)

    async def _next_answer(self, line: mqtt.Session) -> Welcome | Ack | Refused | SayHello:
        while True:
            await self._signal(line, None, heed_growth=False)
            while self._inbox:
                topic, payload = self._inbox.popleft()
                if topic.channel is Channel.STREAM:
                    continue  # before the welcome; it comes again
                if topic.channel is Channel.HELLO and _asks_for_hello(payload):
                    if time.monotonic() - self._greeted_at < UNHEARD_SECONDS:
                        continue  # our hello is on its way
                    return SayHello()
                answer = self._verified(payload)
                if answer is not None:
                    return answer

    # -- after the welcome

    async def _converse(self, line: mqtt.Session) -> None:
        """Send and listen. Returns when a new hello is due; LinkLost when the line is."""
        while True:
            while self._inbox:
                if not await self._heard(line, *self._inbox.popleft()):
                    return
            if self._journal.epoch != self._epoch:
                return
            grown, self._grown = self._grown, set()
            for stream in self._journal.streams(grown):
                self._sender.appended(stream)
            if cut := self._sender.cut():
                if not await self._send(line, cut):
                    return
                await line.drained()
                continue
            timed_out = self._sender.tick(time.monotonic())
            if self._session_over(timed_out):
                return
            if timed_out:
                continue  # all of it waits again, and nothing would wake us to send it
            if copy := self._tail.take(time.monotonic(), self._sender.in_flight):
                line.publish(*copy)
            due = self._sender.deadline or self._renew_at
            await self._signal(line, min(due, self._renew_at, self._tail.due))

    def _session_over(self, timed_out: bool) -> bool:
        """Whether it is time for a new hello (docs/protocol.md, 3.5).

        A hub that was restored or restarted behind our back may know nothing of this session,
        and a box with nothing new to say would never find out.
        """
        if timed_out:
            self.status.timeouts += 1
            self._silent += 1
        now = time.monotonic()
        if now < self._renew_at:
            return self._silent >= SILENT_TIMEOUTS
        self._renew_at = now + RENEWAL_SECONDS
        return self._journal.holds_unsafe(self._group)

    async def _send(self, line: mqtt.Session, cut: Cut) -> bool:
        """One frame to the line; False if the journal left this epoch meanwhile."""
        try:
            run = self._journal.read(cut.stream, cut.first, cut.max_records, cut.max_bytes)
        except SealBroken as error:
            _log.error("a record in the journal is damaged", stream=cut.stream, code=error.code)
            await self._fork(ForkReason.DAMAGED_RECORD)
            return False
        if run.epoch != self._epoch or not run.records:
            return False
        size = sum(map(len, run.records))
        frame = Frame(run.epoch, cut.stream, cut.first, run.before, run.records)
        # One that was sent before may overlap what the hub has by now, and has to say whence.
        short = self._takes_short and cut.fresh and size <= MAX_SHORT_BYTES
        wire = self._short.encode(frame) if short else self._codec.encode(frame)
        topic, now = self._topic(Channel.STREAM, cut.stream), time.monotonic()
        line.publish(topic, wire)
        self._sender.sent(cut, len(run.records), size, now)
        if self._group is Group.URGENT:
            self._tail.sent(topic, wire, now)
        self.traffic.sent(cut, self._epoch, len(run.records), len(wire))
        self.status.frames += 1
        self.status.records += len(run.records)
        self.status.frame_bytes += len(wire)
        self.status.record_bytes += size
        self.status.in_flight_bytes = self._sender.in_flight
        return True

    async def _heard(self, line: mqtt.Session, topic: Topic, payload: bytes) -> bool:
        """Act on one message; False if a new hello is due."""
        if topic.stream is not None:
            await self._take_down(line, payload)
            return True
        if topic.channel is Channel.HELLO and _asks_for_hello(payload):
            return False
        answer = self._verified(payload)
        match answer:
            case Ack(session=self._session) if answer.epoch == self._epoch:
                effects = self._sender.ack(answer.marks, answer.credit, time.monotonic())
                self._silent = 0 if effects else self._silent
                self.status.round_trip_s = self._sender.round_trip
                self.status.in_flight_bytes = self._sender.in_flight
                return await self._apply(effects)
            case Refused(session=self._session):
                self._enter("refused", answer.code, answer.reason)
                return False
            case _:
                return True

    async def _apply(self, effects: Iterable[Effect]) -> bool:
        """Do what an answer means; False if the journal forked."""
        moves = []
        for effect in effects:
            match effect:
                case Advanced():
                    moves.append(effect)
                case Forked(stream, reason, theirs):
                    _log.warning(
                        "histories differ, this journal forks",
                        stream=stream, reason=reason, committed=theirs.seq, group=self._group,
                    )  # fmt: skip
                    await self._fork(reason)
                    return False
        self._moved(self._epoch, moves)
        return True

    async def _fork(self, reason: ForkReason) -> None:
        self.status.forks += 1
        try:
            await self._journal.fork(reason, self._epoch)
        except JournalError as error:  # the disk is full: begin again, later
            raise mqtt.LinkLost(str(error), error.code) from error

    async def _take_down(self, line: mqtt.Session, payload: bytes) -> None:
        """Commit a frame of a down stream, then acknowledge it."""
        try:
            frame = self._codec.decode(payload)
        except ProtocolError as error:
            _log.warning("a frame from the hub cannot be read", code=error.code)
            return
        verdict = receive(self._journal.down_mark(frame.epoch, frame.stream), frame)
        if isinstance(verdict, Accepted):
            try:
                await self._journal.receive(frame.epoch, frame.stream, verdict)
            except JournalError as error:  # not acknowledged, so it comes again
                _log.transition("inbox", "cannot be written", bad=True, code=error.code)
                return
        at = self._journal.down_mark(frame.epoch, frame.stream)
        gap = not isinstance(verdict, Accepted) and at.seq < frame.last
        answer = Ack(
            session=self._session,
            epoch=frame.epoch,
            now_ms=int(self._clock.now() * 1000),
            credit=_DOWN_CREDIT,
            marks=(StreamMark(frame.stream, at, at.seq, gap),),
        )
        line.publish(self._topic(Channel.ACK), messages.encode(answer))

    # -- plumbing

    def _verified(self, payload: bytes) -> Welcome | Ack | Refused | None:
        """A signed answer, or None for what the hub did not sign for us."""
        try:
            signed = messages.decode(payload)
            if not isinstance(signed, Signed):
                return None
            if signed.certificate:
                self._who.trust.learn(signed.certificate, self._clock.now())
            return signing.verify(self._who.trust.key, self._who.node, signed)
        except ProtocolError as error:
            _log.warning("an answer of the hub is not valid", code=error.code, group=self._group)
            return None

    async def _signal(
        self, line: mqtt.Session, deadline: float | None, *, heed_growth: bool = True
    ) -> None:
        """Wait until a message came, the journal grew, the line broke or the deadline passed."""
        grown = heed_growth and self._grown
        if not (self._inbox or grown or self._renewed or line.closed.done()):
            self._wake.clear()
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                return
        if line.closed.done():
            line.closed.result()
        if self._renewed:
            raise mqtt.LinkLost("the box has a new certificate", "renewed")

    def _received(self, topic: str, payload: bytes) -> None:
        try:
            self._inbox.append((topics.parse(topic), payload))
        except ProtocolError as error:
            _log.warning("a message outside the tree", code=error.code)
        self._wake.set()

    def _appended(self, names: set[str]) -> None:
        self._grown |= {name for name in names if lane_of(name).group is self._group}
        self._wake.set()

    def _subscriptions(self) -> list[str]:
        if self._group is Group.URGENT:
            return [topics.subscription(Direction.DOWN, self._who.node)]
        node = self._who.node
        return [str(Topic(node, Direction.DOWN, channel)) for channel in _ANSWERS]

    def _topic(self, channel: Channel, stream: str | None = None) -> str:
        return str(Topic(self._who.node, Direction.UP, channel, stream))

    def _enter(self, state: str, code: str | None = None, detail: str | None = None) -> None:
        if state != self.status.state or code != self.status.code:
            self.status.since_ms = int(self._clock.now() * 1000)
        self.status.state, self.status.code, self.status.detail = state, code, detail
        bad = state in {"offline", "refused"}
        _log.transition(f"uplink {self._group}", state, bad=bad, code=code)


_DOWN_CREDIT = 1 << 20
_ANSWERS = (Channel.HELLO, Channel.ACK)


def _asks_for_hello(payload: bytes) -> bool:
    """Whether this is a say-hello, also one of a later release with fields that we do not know."""
    try:
        return isinstance(messages.decode(payload), SayHello)
    except ProtocolError:
        return False
