"""A box without its disk: identity, two sessions, one stream, by the wire contract and its code.

What a box keeps in its journal is kept in memory here. All else is as in docs/protocol.md: hello,
welcome, frames, signed acknowledgements whose hash is compared, retries with its backoff.
"""

import asyncio
import contextlib
import random
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lianzhen_protocol import chain, hello, signing
from lianzhen_protocol.frame import MAX_RECORDS, Frame, FrameCodec
from lianzhen_protocol.hello import (
    Ack,
    DownMark,
    Hello,
    Presence,
    SayHello,
    Signed,
    StreamClaim,
    Welcome,
)
from lianzhen_protocol.identity import Epoch, NodeId
from lianzhen_protocol.lanes import Group
from lianzhen_protocol.marks import Position, StreamMark
from lianzhen_protocol.receiver import Accepted, receive
from lianzhen_protocol.retry import backoff
from lianzhen_protocol.topics import Channel, Direction, Topic, subscription

from .mqtt_line import Line, Lost

STREAM = "alarm.bench"
"""In the urgent session, whose welcome comes first after a storm."""

KEEPALIVE_S = 60
_CONNECT_S = 15.0
_HELLO_BASE_S = 4.0
_DOWN_CREDIT = 1 << 20
_PATIENCE_S, _GAP_S = 10.0, 2.0


class Hub(NamedTuple):
    """Where all of them go."""

    address: tuple[str, int]
    authority: str
    """PEM."""


class Told(NamedTuple):
    """What an edge reports as it happens."""

    welcomed: Callable[["SimulatedEdge"], None]
    committed: Callable[[float], None]
    """Seconds from the moment that the record was due to the signed word of its commit."""
    failed: Callable[[str], None]


class _Waiting(NamedTuple):
    seq: int
    hash: bytes
    record: bytes
    due: float


class SimulatedEdge:
    """``run`` holds both sessions for ever; ``put`` writes a record."""

    codec = FrameCodec()

    def __init__(self, node: str, pair: Path, source: str, hub: Hub, told: Told) -> None:
        self.node = NodeId(node)
        self.epoch = Epoch(secrets.token_bytes(16))
        self.last = Position(0, chain.genesis(self.node, self.epoch, STREAM))
        self.committed = Position(0, self.last.hash)
        self.sent_again = 0
        self.wire_bytes = 0
        self.signer: Ed25519PublicKey | None = None
        self._waiting: deque[_Waiting] = deque()
        self._progress = 0.0
        self._down: dict[tuple[Epoch, str], Position] = {}
        self._instance = secrets.token_bytes(16)
        self._source = source
        self._hub = hub
        self._told = told
        self._serial = _serial(pair)
        self._context = _context(pair, hub.authority)
        self._sessions = {group: _Session(self, group) for group in Group}

    async def run(self) -> None:
        """Both groups, until cancelled."""
        async with asyncio.TaskGroup() as both:
            for session in self._sessions.values():
                both.create_task(session.run())

    @property
    def online(self) -> bool:
        """Both groups are welcomed."""
        return all(session.welcomed for session in self._sessions.values())

    @property
    def drained(self) -> bool:
        """All that was put is committed, by the hub's signed word."""
        return not self._waiting

    def put(self, records: list[bytes], due: float) -> None:
        """Write records, and send them as one frame if there is a session."""
        first = self.last
        if not self._waiting:
            self._progress = time.monotonic()
        for record in records:
            self.last = Position(self.last.seq + 1, chain.extend(self.last.hash, record))
            self._waiting.append(_Waiting(*_pair(self.last), record, due))
        if self._sessions[Group.URGENT].welcomed:
            self._send(first, records)

    def cut(self) -> None:
        """The line breaks, with no good-bye."""
        for session in self._sessions.values():
            session.cut()

    def ping(self) -> None:
        """Keep the sessions alive."""
        for session in self._sessions.values():
            session.ping()

    def tick(self) -> None:
        """Send again what was not acknowledged in time."""
        if self._waiting and time.monotonic() - self._progress > _PATIENCE_S:
            self._again()

    # -- for its sessions

    def greeting(self, group: Group, session: bytes) -> Hello:
        """A hello as it stands now."""
        named = group is Group.URGENT and bool(self._waiting)
        claim = StreamClaim(STREAM, self.last, self.committed.seq)
        return Hello(
            session=session,
            group=group,
            protocols=hello.PROTOCOLS,
            epoch=self.epoch,
            parentage=None,
            instance=self._instance,
            serial=self._serial,
            software="simulated",
            now_ms=time.time_ns() // 1_000_000,
            streams=(claim,) if named else (),
            down=self._down_marks() if group is Group.URGENT else (),
        )

    def _down_marks(self) -> tuple[DownMark, ...]:
        return tuple(DownMark(epoch, name, at) for (epoch, name), at in self._down.items())

    def welcomed(self, welcome: Welcome) -> None:
        """A session begins: what the hub lacks goes again."""
        self.marks(welcome.marks)
        self._again()
        if self.online:
            self._told.welcomed(self)

    def take_down(self, session: bytes, payload: bytes) -> bytes:
        """Keep what comes down, and the acknowledgement of it."""
        frame = self.codec.decode(payload)
        key = frame.epoch, frame.stream
        genesis = Position(0, chain.genesis(self.node, frame.epoch, frame.stream))
        at = self._down.get(key, genesis)
        verdict = receive(at, frame)
        if isinstance(verdict, Accepted):
            at = self._down[key] = verdict.position
        mark = StreamMark(frame.stream, at, at.seq, at.seq < frame.last)
        now_ms = time.time_ns() // 1_000_000
        ack = Ack(
            session=session, epoch=frame.epoch, now_ms=now_ms, credit=_DOWN_CREDIT, marks=(mark,)
        )
        return hello.encode(ack)

    def marks(self, marks: tuple[StreamMark, ...]) -> None:
        """Believe a signed mark if its hash is ours."""
        for mark in marks:
            while self._waiting and self._waiting[0].seq <= mark.committed.seq:
                done = self._waiting.popleft()
                if done.seq == mark.committed.seq and done.hash != mark.committed.hash:
                    self._told.failed("the hub's history is not ours")
                self.committed = Position(done.seq, done.hash)
                self._progress = time.monotonic()
                self._told.committed(self._progress - done.due)
            if mark.gap and time.monotonic() - self._progress > _GAP_S:
                self._again()

    def _again(self) -> None:
        if not self._waiting or not self._sessions[Group.URGENT].welcomed:
            return
        self._progress = time.monotonic()
        self.sent_again += len(self._waiting)
        waiting, after = list(self._waiting), self.committed
        for at in range(0, len(waiting), MAX_RECORDS):
            part = waiting[at : at + MAX_RECORDS]
            self._send(after, [each.record for each in part])
            after = Position(part[-1].seq, part[-1].hash)

    def _send(self, after: Position, records: list[bytes]) -> None:
        frame = Frame(self.epoch, STREAM, after.seq + 1, after.hash, tuple(records))
        wire = self.codec.encode(frame)
        self.wire_bytes += len(wire)
        topic = Topic(self.node, Direction.UP, Channel.STREAM, STREAM)
        self._sessions[Group.URGENT].publish(str(topic), wire)


class _Session:
    """One group of a box's lanes."""

    def __init__(self, edge: SimulatedEdge, group: Group) -> None:
        self._edge = edge
        self._group = group
        self._line: Line | None = None
        self._wake = asyncio.Event()
        self._lost = False
        self._again = False
        self._session = b""
        self.welcomed = False

    async def run(self) -> None:
        attempt = 0
        while True:
            try:
                await self._hold()
                attempt = 0
            except (Lost, TimeoutError):
                attempt += 1
            await asyncio.sleep(backoff(attempt, random.random()))

    def publish(self, topic: str, payload: bytes) -> None:
        if self._line is not None:
            self._line.publish(topic, payload)

    def cut(self) -> None:
        if self._line is not None:
            self._line.abort()
            self._broken()

    def ping(self) -> None:
        if self._line is not None:
            self._line.ping()

    async def _hold(self) -> None:
        """Connect, greet, and stay until the line breaks; Lost before a first welcome."""
        edge, node = self._edge, self._edge.node
        line = Line(self._heard, self._broken)
        self._lost = self._again = False
        presence = hello.encode(Presence(instance=edge._instance, group=self._group))
        will = (str(Topic(node, Direction.UP, Channel.PRESENCE)), presence)
        wanted: tuple[str, ...] = tuple(
            str(Topic(node, Direction.DOWN, channel)) for channel in (Channel.HELLO, Channel.ACK)
        )
        if self._group is Group.URGENT:
            wanted = (subscription(Direction.DOWN, node),)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await line.open(
                    edge._hub.address,
                    edge._source,
                    edge._context,
                    f"{node}.{secrets.token_hex(8)}",
                    will,
                    wanted,
                    KEEPALIVE_S,
                )
            self._line = line
            await self._converse(line)
        finally:
            self._line, self.welcomed = None, False
            line.abort()

    async def _converse(self, line: Line) -> None:
        attempt = 0
        while not self._lost:
            if not self.welcomed or self._again:
                self._again = self.welcomed = False
                self._session = secrets.token_bytes(16)
                greeting = self._edge.greeting(self._group, self._session)
                topic = Topic(self._edge.node, Direction.UP, Channel.HELLO)
                line.publish(str(topic), hello.encode(greeting))
            self._wake.clear()
            patience = backoff(attempt, random.random(), base=_HELLO_BASE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self.welcomed else patience):
                    await self._wake.wait()
            attempt = 0 if self.welcomed else attempt + 1

    def _broken(self) -> None:
        self._lost, self.welcomed = True, False
        self._wake.set()

    def _heard(self, topic: str, payload: bytes) -> None:
        if "/down/stream/" in topic:
            if self.welcomed and self._line is not None:
                answer_to = Topic(self._edge.node, Direction.UP, Channel.ACK)
                acknowledged = self._edge.take_down(self._session, payload)
                self._line.publish(str(answer_to), acknowledged)
            return
        message = hello.decode(payload)
        if isinstance(message, SayHello):
            if self.welcomed:  # else ours is unanswered anyway
                self._again = True
                self._wake.set()
            return
        if not isinstance(message, Signed):
            return
        if message.certificate:
            self._edge.signer = _key(message.certificate)
        if self._edge.signer is None:
            return
        answer = signing.verify(self._edge.signer, self._edge.node, message)
        if answer.session != self._session:
            return
        match answer:
            case Welcome():
                self.welcomed = True
                self._edge.welcomed(answer)
                self._wake.set()
            case Ack():
                self._edge.marks(answer.marks)
            case _:
                self._edge._told.failed(answer.code)


def _pair(position: Position) -> tuple[int, bytes]:
    return position.seq, position.hash


def _context(pair: Path, authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority)
    context.load_cert_chain(pair)
    return context


def _serial(pair: Path) -> str:
    return f"{x509.load_pem_x509_certificate(pair.read_bytes()).serial_number:x}"


@lru_cache
def _key(der: bytes) -> Ed25519PublicKey:
    key = x509.load_der_x509_certificate(der).public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("the hub signs with another kind of key")
    return key
