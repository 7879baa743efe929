"""Stands between a box and its broker with the keys of both, and meddles with their messages.

TLS ends here on both sides, so it knows where a packet begins: a message may be lost, doubled,
held back until others overtook it, or come back in a later session; a session may be cut within a
packet, be deaf to one side, or live on at the broker after the box has lost it. Whatever is
dropped or held is acknowledged (PUBACK) to its sender all the same, as a broker that dies later
would. Copies travel with QoS 0, so that each of them is the receiver's whole business.
"""

import asyncio
import contextlib
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

Way = Literal["up", "down"]
"""To the broker, or to the box."""

LATER_SESSION: Final = -1
_LATE_SECONDS: Final = 1.0
"""What is held back comes then at the latest: perhaps nothing follows that could overtake it."""

_PUBLISH, _PUBACK = 3, 4


class Twist(NamedTuple):
    """What becomes of the ``at``-th message from now that goes ``way``.

    ``copies`` says when each copy arrives: after so many others, 0 at once, LATER_SESSION in one
    that begins later. No copy: the message is lost.
    """

    way: Way
    at: int
    copies: tuple[int, ...]


class Keys(NamedTuple):
    """Certificates with their keys, in PEM files: the broker's, and the box's two."""

    broker: Path
    box_certificate: Path
    box_key: Path


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """One MQTT packet with its fixed header."""
    head = await reader.readexactly(2)
    size, shift = head[-1] & 127, 7
    while head[-1] & 128:
        head += await reader.readexactly(1)
        size |= (head[-1] & 127) << shift
        shift += 7
    return head + await reader.readexactly(size)


def _body_at(packet: bytes) -> int:
    at = 1
    while packet[at] & 128:
        at += 1
    return at + 1


def _size(length: int) -> bytes:
    out = bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    return bytes([*out, length])


def without_receipt(packet: bytes) -> tuple[bytes, bytes]:
    """A PUBLISH of QoS 1 as QoS 0, and the PUBACK that its sender waits for (none for QoS 0)."""
    if not packet[0] & 0x06:
        return packet, b""
    at = _body_at(packet)
    end = at + 2 + int.from_bytes(packet[at : at + 2], "big")
    body = packet[at:end] + packet[end + 2 :]
    puback = bytes([_PUBACK << 4, 2]) + packet[end : end + 2]
    return bytes([_PUBLISH << 4 | packet[0] & 1]) + _size(len(body)) + body, puback


class _Session:
    """One connection of the box and ours to the broker."""

    def __init__(self, box: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self.writers: dict[Way, asyncio.StreamWriter] = {"up": broker, "down": box}
        self.deaf: set[Way] = set()
        self.passed: Counter[Way] = Counter()
        self.held: list[tuple[Way, int, bytes]] = []
        self.ghost = False

    def write(self, way: Way, packet: bytes) -> None:
        if way not in self.deaf and not self.writers[way].transport.is_closing():
            self.writers[way].write(packet)

    def overtaken(self, way: Way, *, all_of_it: bool = False) -> None:
        """Let go of what was held until now."""
        due = [
            held for held in self.held
            if held[0] == way and (all_of_it or held[1] <= self.passed[way])
        ]  # fmt: skip
        for held in due:
            self.held.remove(held)
            self.write(way, held[2])

    def abort(self, *ways: Way) -> None:
        for way in ways or ("up", "down"):
            self.writers[way].transport.abort()


class Meddler:
    """Forwards until told to meddle. One thread with one loop, which owns every socket."""

    def __init__(self, target: int, port: int, keys: Keys) -> None:
        self.port, self._target, self._keys = port, target, keys
        self._sessions: set[_Session] = set()
        self._twists: dict[tuple[Way, int], tuple[int, ...]] = {}
        self._seen: Counter[Way] = Counter()
        self._returning: list[tuple[Way, bytes]] = []
        self._cuts: dict[Way, int] = {}
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self.done: Counter[str] = Counter()
        """How much of what was done."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.result(60)

    def close(self) -> None:
        """End it, and every connection with it."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(60)

    # -- what a test says; each returns when it is in force

    def twist(self, twists: Iterable[Twist]) -> None:
        """Meddle with these messages, counted from now."""
        found = list(twists)

        def begin() -> None:
            self._seen.clear()
            self._twists = {(each.way, each.at): each.copies for each in found}

        self._tell(begin)

    def cut(self, way: Way, after: int) -> None:
        """End all sessions, without a good-bye, when so many more bytes went that way."""
        self._tell(lambda: self._cuts.update({way: after}))

    def deafen(self, ways: Iterable[Way], seconds: float) -> None:
        """Half-open: what goes these ways is lost, and the end comes later."""
        found = set(ways)

        def begin() -> None:
            for session in self._sessions:
                session.deaf |= found
                self.done["half-open"] += 1
                self._loop.call_later(seconds, session.abort)

        self._tell(begin)

    def haunt(self, seconds: float) -> None:
        """The box loses its sessions at once, the broker a while later."""

        def begin() -> None:
            for session in self._sessions:
                session.ghost = True
                session.abort("down")
                self.done["ghost"] += 1
                self._loop.call_later(seconds, session.abort)

        self._tell(begin)

    @property
    def busy(self) -> bool:
        """Something that was asked for has not happened yet."""
        return bool(self._twists or self._cuts)

    def calm(self) -> None:
        """Nothing more from now on, but what is held back for a later session comes there."""

        def begin() -> None:
            self._twists.clear()
            self._cuts.clear()

        self._tell(begin)

    def _tell(self, what: Callable[[], Any]) -> None:
        done: Future[None] = Future()

        def call() -> None:
            what()
            done.set_result(None)

        self._loop.call_soon_threadsafe(call)
        done.result(60)

    # -- the loop's side

    def _run(self, ready: Future[None]) -> None:
        with contextlib.closing(self._loop):
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._serve(ready))

    async def _serve(self, ready: Future[None]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._keys.broker)
        server = await asyncio.start_server(self._met, "127.0.0.1", self.port, ssl=context)
        ready.set_result(None)
        await self._over.wait()
        server.close()
        for session in self._sessions:
            session.abort()
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=10)

    async def _met(self, reader: asyncio.StreamReader, box: asyncio.StreamWriter) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self._keys.box_certificate, self._keys.box_key)
        try:
            there, broker = await asyncio.open_connection("127.0.0.1", self._target, ssl=context)
        except OSError:
            box.transport.abort()
            return
        session = _Session(box, broker)
        self._sessions.add(session)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(session, "up", reader))
                both.create_task(self._pump(session, "down", there))
        finally:
            self._sessions.discard(session)
            session.abort()

    async def _pump(self, session: _Session, way: Way, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                packet = await _packet(reader)
                if way in session.deaf:
                    continue
                if self._is_cut(session, way, packet):
                    break
                if packet[0] >> 4 == _PUBLISH:
                    self._published(session, way, packet)
                else:
                    session.write(way, packet)
                if not session.writers[way].transport.is_closing():
                    await session.writers[way].drain()
        if not (session.ghost and way == "up"):  # a ghost lives on at the broker
            session.abort()

    def _is_cut(self, session: _Session, way: Way, packet: bytes) -> bool:
        if way not in self._cuts:
            return False
        left = self._cuts[way] - len(packet)
        if left > 0:
            self._cuts[way] = left
            return False
        session.write(way, packet[: self._cuts.pop(way)])
        self.done["cut"] += 1
        for each in self._sessions:
            each.abort()
        return True

    def _published(self, session: _Session, way: Way, packet: bytes) -> None:
        number, self._seen[way] = self._seen[way], self._seen[way] + 1
        session.passed[way] += 1
        copies = self._twists.pop((way, number), None)
        if copies is None:
            session.write(way, packet)
        else:
            self._twisted(session, way, packet, copies)
        session.overtaken(way)
        if session.passed[way] == 2:  # the first after a hello
            back, self._returning = self._returning, []
            for kept in back:
                if kept[0] == way:
                    session.write(*kept)
                    self.done["came back"] += 1
                else:
                    self._returning.append(kept)

    def _twisted(self, session: _Session, way: Way, packet: bytes, copies: tuple[int, ...]) -> None:
        plain, receipt = without_receipt(packet)
        session.write("down" if way == "up" else "up", receipt)
        self.done["lost" if not copies else "doubled" if len(copies) > 1 else "late"] += 1
        for after in copies:
            if after == LATER_SESSION:
                self._returning.append((way, plain))
            elif after:
                session.held.append((way, session.passed[way] + after, plain))
                self._loop.call_later(_LATE_SECONDS, lambda: session.overtaken(way, all_of_it=True))
            else:
                session.write(way, plain)
