"""Listens to the broker and answers: hello, frames, acknowledgements, presence, in their order.

One worker takes what arrived: frames are committed together, everything else one at a time. An
answer goes out only after the transaction that it speaks of.
"""

import asyncio
import contextlib
import random
import secrets
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, OperationalError

from lianzhen_hub.fleet.authority import Signer
from lianzhen_hub.store.database import Database
from lianzhen_protocol import hello as messages
from lianzhen_protocol import signing, topics
from lianzhen_protocol.errors import ProtocolError
from lianzhen_protocol.hello import (
    Ack,
    Hello,
    Message,
    Presence,
    Refusal,
    Refused,
    SayHello,
    Welcome,
)
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group, lane_of
from lianzhen_protocol.marks import StreamMark
from lianzhen_protocol.sessions import Sessions
from lianzhen_protocol.short_frame import SHORT
from lianzhen_protocol.topics import Channel, Direction, Topic
from lianzhen_runtime import mqtt
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.log import Log

from .admission import Admission, Asked
from .calls import Calls
from .downlink import Downlink, Outbox
from .intake import UNKNOWN_SESSION, Arrived, Intake, Outcome, Overtaken
from .register import Register
from .share import WHOLE, Share
from .status import IngestStatus
from .traffic import Traffic
from .vault import Vault

CREDIT_BYTES = 4 << 20
"""Record bytes that one session of a box may have unacknowledged."""

QUEUE_BYTES = 64 << 20
"""What may wait here; beyond it frames are dropped and counted, and their boxes send again."""

BATCH_BYTES = 8 << 20
_RETRY_SECONDS = 2.0
_TICK_SECONDS = 1.0
_SAY_HELLO_SECONDS = 1.0
_FILTERS = 200
"""Subscriptions in one packet."""

BUSY = "hub-busy"
"""Counts hellos that found no room in the line; their boxes say hello again by themselves."""

_log = Log("lianzhen.ingest")


class Fleet(Protocol):
    """What the ingest asks of the fleet."""

    def is_active(self, name: str) -> bool:
        """Enrolled and not revoked."""

    def active(self) -> frozenset[str]:
        """All of those."""

    def use(self, connection: Connection, name: str, serial: str) -> bool | LianzhenError:
        """A certificate is used; the error for one that may not be any more."""

    def was_used(self, name: str, serial: str, found: Any) -> None:
        """What ``use`` found is committed."""


class _Greeted(NamedTuple):
    """A hello that was looked at, and whether its certificate is in good standing."""

    node: NodeId
    hello: Hello
    used: bool | LianzhenError
    marks: tuple[StreamMark, ...]


class Ingest:
    """``run`` is a service for ``supervised``; ``logged`` is told that there is more in the log."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        outbox: Outbox,
        fleet: Fleet,
        signer: Signer,
        clock: Callable[[], float],
        logged: Callable[[], None],
        *,
        share: Share = WHOLE,
        safe_on_commit: bool = True,
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._signer = signer
        self._clock = clock
        self._sessions = Sessions()
        self._calls = Calls(random.random)
        self._asked: dict[NodeId, float] = {}
        self._queue: deque[tuple[Topic, bytes]] = deque()
        self._wake = asyncio.Event()
        self._logged = logged
        self._share = share
        self._served: frozenset[str] = frozenset()
        self._line: mqtt.Session | None = None
        self._admission = Admission()
        self._intake = Intake(vault, self._admitted, self._epochs, safe_on_commit=safe_on_commit)
        database.on_rollback(self._intake.doubt)
        self._register = Register(vault, self._intake)
        self._safer = False
        self.downlink = Downlink(database, outbox, self._send_down)
        self.status = IngestStatus()
        self.traffic = Traffic()

    # -- life

    async def run(
        self, address: mqtt.Address, context: ssl.SSLContext, *, durable: bool = False
    ) -> None:
        """Hold the hub's broker session; LinkLost when it ends.

        ``durable``: a broker of many nodes, which keeps what boxes say while we go from one of
        them to another. The sessions of boxes go on then: their own nodes may well live.
        """
        client_id = f"hub.{'ingest' if durable else secrets.token_hex(16)}"
        async with mqtt.session(
            address, client_id, context, self._received, durable=durable
        ) as line:
            if not self.sessions:
                owns, now_ms = self._share.owns, self._now_ms()
                await self._database.write(lambda db: self._register.nobody(db, owns, now_ms))
            self._line = line
            line.closed.add_done_callback(lambda _: self._wake.set())
            try:
                self._served = frozenset()
                await self._serve(line)
                _log.transition("ingest", "listening")
                await self._work(line)
            finally:
                self._line = None
                if not durable:
                    self._forget()

    def _forget(self) -> None:
        self._queue.clear()
        self._admission.clear()
        self._sessions.clear()
        self.status.queued_bytes = 0

    async def _serve(self, line: mqtt.Session) -> None:
        """Hear every box of our share, also those that joined since, and ask it for a hello."""
        active = self._fleet.active()
        fresh = [node for node in map(NodeId, active - self._served) if self._share.owns(node)]
        if self._share.whole:
            if not self._served:
                await line.subscribe(topics.subscription(Direction.UP))
        else:
            for at in range(0, len(fresh), _FILTERS):
                few = fresh[at : at + _FILTERS]
                await line.subscribe(*(topics.subscription(Direction.UP, node) for node in few))
        if not (self._share.whole and self._served):  # who joins a whole says hello by itself
            self._calls.want(fresh, time.monotonic())
        self._served = active

    async def told(self, nodes: Collection[NodeId]) -> None:
        """Something waits to go down to these boxes: send it, or ask them to say hello."""
        await self.downlink.nudge(nodes)
        absent = [node for node in nodes if not self._sessions.of(node, Group.URGENT)]
        self._calls.want(absent, time.monotonic())

    def made_safe(self) -> None:
        """The safe marks moved in the database: the boxes that are there are told."""
        self._safer = True
        self._wake.set()

    async def _tell_safe(self) -> None:
        """Between two batches of frames: no mark that is told here is behind one told before."""
        self._intake.doubt()
        live = {(node, session.epoch) for node, session in self._sessions}
        marks = await self._database.write(lambda db: self._intake.marks_of(db, live))
        self._safer = False
        self._acknowledge(Outcome(marks, {}, [], 0))

    async def _work(self, line: mqtt.Session) -> None:
        while True:
            if not self._queue and not self._admission:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._wake.wait()
            self._tick()
            if self._safer:
                await self._durably(self._tell_safe)
            if line.closed.done():
                line.closed.result()
            if self._fleet.active() is not self._served:
                await self._serve(line)
            for channel, batch in groupby(self._take(), key=lambda item: item[0].channel):
                await self._durably(partial(self._handle, channel, list(batch)))
            if asked := self._admission.turn():
                await self._durably(partial(self._admit, asked))

    async def _durably(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what ends in a commit; what was not answered, since there was none, comes again."""
        try:
            await work()
        except Overtaken:  # by the last commit of the ingest before us
            _log.warning("another ingest moved these streams; what they bring comes again")
        except (OperationalError, IntegrityError) as error:
            # A full disk, or a database that is away.
            cause = type(error.orig).__name__
            _log.transition("database", "refuses", bad=True, error=cause)
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            _log.transition("database", "works")

    async def _handle(self, channel: Channel, batch: list[tuple[Topic, bytes]]) -> None:
        if channel is Channel.STREAM:
            await self._frames([Arrived(t.node, t.stream or "", wire) for t, wire in batch])
        elif channel is Channel.PRESENCE:
            await self._left(batch)
        else:
            for topic, payload in batch:
                await self._message(topic, payload)

    def _tick(self) -> None:
        """What is due by the clock alone: repeat what went down, call who has not said hello."""
        now = time.monotonic()
        self.downlink.tick(now)
        for node in self._calls.due(now):
            if self._fleet.is_active(node):
                self._publish(node, Channel.HELLO, messages.encode(SayHello()))
            else:
                self._calls.heard(node)

    def _take(self) -> list[tuple[Topic, bytes]]:
        taken, size = [], 0
        while self._queue and size < BATCH_BYTES:
            taken.append(self._queue.popleft())
            size += len(taken[-1][1])
        self.status.queued_bytes -= size
        return taken

    def _received(self, topic: str, payload: bytes) -> None:
        if self.status.queued_bytes + len(payload) > QUEUE_BYTES:
            self.status.dropped_frames += 1
            return
        try:
            self._queue.append((topics.parse(topic), payload))
        except ProtocolError as error:
            self.status.turned[error.code] += 1
            return
        self.status.queued_bytes += len(payload)
        self._wake.set()

    # -- frames

    def _admitted(self, node: NodeId, group: Group, epoch: Epoch) -> bool:
        known = self._sessions.find(node, group, epoch) is not None
        return known and self._fleet.is_active(node)

    def _epochs(self, node: NodeId, group: Group) -> Iterable[Epoch]:
        return (live.epoch for live in self._sessions.of(node, group))

    async def _frames(self, batch: list[Arrived]) -> None:
        """Commit, then acknowledge: the one place where an acknowledgement is made."""
        for arrived in batch:
            self.traffic.received(arrived.node, arrived.stream, len(arrived.wire))
        outcome = await self._database.write(
            lambda db: self._intake.commit(db, batch, self._now_ms())
        )
        self._intake.settle(outcome)
        self._count(outcome, len(batch))
        self._acknowledge(outcome)
        for turned in outcome.turned:
            await self._turn(turned.node, turned.group, turned.code, turned.detail)
        if outcome.moved:
            self._logged()

    def _count(self, outcome: Outcome, frames: int) -> None:
        self.status.frames += frames
        self.status.transactions += 1
        self.status.records += outcome.records
        self.status.turned.update(turned.code for turned in outcome.turned)

    def _acknowledge(self, outcome: Outcome) -> None:
        answers: dict[tuple[NodeId, Group, Epoch], list[StreamMark]] = {}
        for key, mark in outcome.marks.items():
            group = lane_of(key.stream).group
            answers.setdefault((key.node, group, key.epoch), []).append(mark)
        for (node, group, epoch), marks in answers.items():
            live = self._sessions.find(node, group, epoch)
            if live is None:  # revoked meanwhile
                continue
            ack = Ack(
                session=live.session,
                epoch=epoch,
                now_ms=self._now_ms(),
                credit=CREDIT_BYTES,
                marks=tuple(marks),
            )
            self._publish(node, Channel.ACK, signing.sign(self._signer.key, node, ack))

    async def _turn(self, node: NodeId, group: Group, code: str, detail: str) -> None:
        """Answer a frame that was not taken, each box at most once a second."""
        now = time.monotonic()
        if now - self._asked.get(node, -_SAY_HELLO_SECONDS) < _SAY_HELLO_SECONDS:
            return
        self._asked[node] = now
        if not self._fleet.is_active(node):
            return  # the gate has ended its sessions, or is about to
        if code == UNKNOWN_SESSION:
            if self._admission.waits(node, group):
                return  # its hello is here and will be answered
            self._publish(node, Channel.HELLO, messages.encode(SayHello()))
            return
        _log.warning("a box sends frames that cannot be read", node=node, code=code)
        await self._database.write(
            lambda db: self._register.unreadable(db, node, code, detail, self._now_ms())
        )
        for live in self._sessions.of(node, group):
            self._refuse(node, live.session, code, detail)

    # -- messages

    async def _message(self, topic: Topic, payload: bytes) -> None:
        match topic.channel, self._decoded(topic, payload):
            case Channel.HELLO, Hello() as hello:
                if not self._admission.ask(topic.node, hello):
                    self.status.turned[BUSY] += 1
            case Channel.ACK, Ack() as ack:
                if not await self.downlink.acknowledged(topic.node, ack):
                    self._calls.want([topic.node], time.monotonic())
            case _, None:
                pass
            case _:
                self.status.turned["message-misplaced"] += 1

    def _decoded(self, topic: Topic, payload: bytes) -> Message | None:
        try:
            return messages.decode(payload)
        except ProtocolError as error:
            self.status.turned[error.code] += 1
            _log.warning("a message that cannot be read", node=topic.node, code=error.code)
            return None

    async def _admit(self, asked: Sequence[Asked]) -> None:
        """Welcome boxes, or say why not; what is remarkable about them is told to the admins."""
        able = [each for each in asked if self._may_speak(each)]
        succeeded = {node: self._sessions.succeeded(node) for node, _ in able}
        now_ms = self._now_ms()

        def greet(db: Connection) -> list[_Greeted]:
            found = []
            for node, hello in able:
                used = self._fleet.use(db, node, hello.serial)
                marks: tuple[StreamMark, ...] = ()
                if not isinstance(used, LianzhenError):
                    marks = self._register.greet(db, node, hello, succeeded[node], now_ms)
                found.append(_Greeted(node, hello, used, marks))
            return found

        welcomed = []
        for greeted in await self._database.write(greet):
            node, hello, used, _ = greeted
            self._fleet.was_used(node, hello.serial, used)
            if isinstance(used, LianzhenError):
                self._turn_away(node, hello, used)
            else:
                self._welcome(greeted)
                welcomed.append(greeted)
        urgent = [each for each in welcomed if each.hello.group is Group.URGENT]
        await self.downlink.open([(each.node, each.hello) for each in urgent])

    def _may_speak(self, asked: Asked) -> bool:
        node, hello = asked
        if not self._fleet.is_active(node):
            why = LianzhenError("this box was taken out of service", code=Refusal.REVOKED)
        elif messages.agree(hello.protocols) is None:
            why = LianzhenError("box or hub is too old; update it", code=Refusal.PROTOCOL)
        else:
            return True
        self._turn_away(node, hello, why)
        return False

    def _turn_away(self, node: NodeId, hello: Hello, why: LianzhenError) -> None:
        _log.warning("a hello is refused", node=node, code=why.code, group=hello.group)
        self._sessions.end(node, hello.group, hello.instance)
        self._refuse(node, hello.session, why.code, str(why))

    def _welcome(self, greeted: _Greeted) -> None:
        node, hello, _, marks = greeted
        self._sessions.begin(node, hello)
        if self._sessions.complete(node):
            self._calls.heard(node)
        _log.info("hello", node=node, group=hello.group, version=hello.software, count=len(marks))
        welcome = Welcome(
            session=hello.session,
            protocol=messages.agree(hello.protocols) or 0,
            now_ms=self._now_ms(),
            credit=CREDIT_BYTES,
            marks=marks,
            frames=SHORT,
        )
        signed = signing.sign(self._signer.key, node, welcome, self._signer.der)
        self._publish(node, Channel.HELLO, signed)

    async def _left(self, batch: list[tuple[Topic, bytes]]) -> None:
        """Last wills: each counts for the program that it names, not for the one after it.

        That of a connection which its program has lost and replaced comes late, and ends what is
        alive: whoever is still there says hello again.
        """
        gone = []
        for topic, payload in batch:
            node, said = topic.node, self._decoded(topic, payload)
            if not isinstance(said, Presence):
                self.status.turned["message-misplaced"] += said is not None
                continue
            self._admission.withdraw(node, said.group, said.instance)
            if self._sessions.end(node, said.group, said.instance):
                gone.append((node, said))
                if said.group is Group.URGENT:
                    self.downlink.gone(node)
        now_ms = self._now_ms()

        def note(db: Connection) -> None:
            for node, said in gone:
                self._register.offline(db, node, said.group, now_ms, said.instance)

        if gone:
            self._calls.want([node for node, _ in gone], time.monotonic())
            await self._database.write(note)
        for node, said in gone:
            _log.info("gone", node=node, group=said.group)

    async def _offline(self, node: NodeId, group: Group) -> None:
        await self._database.write(
            lambda db: self._register.offline(db, node, group, self._now_ms())
        )
        _log.info("gone", node=node, group=group)

    # -- answers

    async def revoked(self, node: NodeId) -> None:
        """A box was taken out of service: nothing of its live sessions counts any more.

        Its last will is denied by then, so it is marked as gone here.
        """
        self.downlink.gone(node)
        self._sessions.drop(node)
        for group in Group:
            await self._offline(node, group)

    @property
    def listening(self) -> bool:
        """True while the broker session is there."""
        return self._line is not None

    @property
    def sessions(self) -> int:
        """How many sessions are live."""
        return sum(1 for _ in self._sessions)

    def _refuse(self, node: NodeId, session: bytes, code: str, reason: str) -> None:
        refused = Refused(session=session, code=code, reason=reason)
        self._publish(
            node,
            Channel.HELLO,
            signing.sign(self._signer.key, node, refused, self._signer.der),
        )

    def _send_down(self, node: NodeId, stream: str, wire: bytes) -> None:
        if self._line is not None:
            self._line.publish(str(Topic(node, Direction.DOWN, Channel.STREAM, stream)), wire)

    def _publish(self, node: NodeId, channel: Channel, wire: bytes) -> None:
        if self._line is not None:
            self._line.publish(str(Topic(node, Direction.DOWN, channel)), wire)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
