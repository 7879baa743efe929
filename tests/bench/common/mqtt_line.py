"""One MQTT 5 session over mutual TLS in as little memory as it takes, for very many in one process.

Only what the wire contract needs (docs/protocol.md, 2): clean start, QoS 1 both ways, a will. A
paho client a box, and asyncio's own TLS with 256 KiB of buffer a connection, are for one box.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable

from lianzhen_protocol.identity import HUB_NAME

_CONNECT, _CONNACK, _PUBLISH, _PUBACK = 0x10, 0x20, 0x30, 0x40
_SUBSCRIBE, _SUBACK, _PINGREQ, _DISCONNECT = 0x82, 0x90, 0xC0, 0xE0
_QOS1, _WILL_QOS1, _CLEAN = 0x02, 0x0C, 0x02
_READ_BYTES = 16 << 10

OnMessage = Callable[[str, bytes], None]


class Lost(OSError):
    """The session is over, or never began."""


class Line:
    """A session. ``on_message`` and ``on_lost`` are called on the loop; ``on_lost`` once."""

    def __init__(self, on_message: OnMessage, on_lost: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_lost = on_lost
        self._socket: ssl.SSLSocket | None = None
        self._in = bytearray()
        self._out = bytearray()
        self._numbers = 0
        self._answer: asyncio.Future[None] | None = None

    async def open(
        self,
        address: tuple[str, int],
        source: str,
        context: ssl.SSLContext,
        client_id: str,
        will: tuple[str, bytes],
        topics: tuple[str, ...],
        keepalive: int,
    ) -> None:
        """Connect and subscribe; Lost if that does not come about."""
        plain = socket.socket()
        try:
            plain.setblocking(False)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.bind((source, 0))
            await self._loop.sock_connect(plain, address)
            self._socket = context.wrap_socket(
                plain, server_hostname=HUB_NAME, do_handshake_on_connect=False
            )
            await self._shake_hands(self._socket)
            self._loop.add_reader(self._socket, self._readable)
            await self._ask(_connect(client_id, will, keepalive))
            await self._ask(_subscribe(topics))
        except (OSError, TimeoutError, asyncio.CancelledError) as error:
            plain.close()
            self.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise Lost(str(error)) from error

    def publish(self, topic: str, payload: bytes) -> None:
        """One message, QoS 1; nothing is repeated here."""
        self._numbers = self._numbers % 0xFFFF + 1
        body = _text(topic) + struct.pack(">H", self._numbers) + b"\0" + payload
        self._write(_packet(_PUBLISH | _QOS1, body))

    def ping(self) -> None:
        """What keepalive asks of us."""
        self._write(bytes((_PINGREQ, 0)))

    def abort(self) -> None:
        """Let go of the socket without a good-bye."""
        if self._socket is not None:
            leaving, self._socket = self._socket, None
            self._loop.remove_reader(leaving)
            self._loop.remove_writer(leaving)
            leaving.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost("the session was lost"))

    # -- inside

    async def _shake_hands(self, handshake: ssl.SSLSocket) -> None:
        while True:
            try:
                handshake.do_handshake()
                return
            except ssl.SSLWantReadError:
                await _ready(self._loop.add_reader, self._loop.remove_reader, handshake)
            except ssl.SSLWantWriteError:
                await _ready(self._loop.add_writer, self._loop.remove_writer, handshake)

    async def _ask(self, packet: bytes) -> None:
        self._answer = self._loop.create_future()
        self._write(packet)
        await self._answer
        self._answer = None

    def _lose(self) -> None:
        if self._socket is not None:
            self.abort()
            self._on_lost()

    def _write(self, packet: bytes) -> None:
        self._out += packet
        self._flush()

    def _flush(self) -> None:
        line = self._socket
        if line is None:
            return
        try:
            while self._out:
                del self._out[: line.send(self._out)]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._loop.add_writer(line, self._flush)
            return
        except OSError:
            self._lose()
            return
        self._loop.remove_writer(line)

    def _readable(self) -> None:
        while (line := self._socket) is not None:
            try:
                found = line.recv(_READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                found = b""
            if not found:
                self._lose()
                return
            self._in += found
            self._parse()

    def _parse(self) -> None:
        while (packet := _first(self._in)) is not None:
            kind, body, size = packet
            del self._in[:size]
            self._take(kind, body)

    def _take(self, kind: int, body: bytes) -> None:
        match kind & 0xF0:
            case 0x30:  # PUBLISH
                length = struct.unpack_from(">H", body)[0]
                at = 2 + length
                if kind & 0x06:
                    self._write(_packet(_PUBACK, body[at : at + 2]))
                    at += 2
                extra, used = _varint(body, at)
                self._on_message(body[2 : 2 + length].decode(), body[at + used + extra :])
            case 0x20 | 0x90:  # CONNACK, SUBACK
                refused = body[1] if kind == _CONNACK else body[-1]
                if self._answer is not None and not self._answer.done():
                    if refused >= 0x80:
                        self._answer.set_exception(Lost(f"refused with {refused:#x}"))
                    else:
                        self._answer.set_result(None)
            case 0xE0:
                self._lose()
            case _:
                pass  # PUBACK proves nothing, PINGRESP needs nothing


async def _ready(
    add: Callable[..., object], remove: Callable[..., object], handshake: ssl.SSLSocket
) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not waiting.done():
            waiting.set_result(None)

    add(handshake, ready)
    try:
        await waiting
    finally:
        remove(handshake)


def _text(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack(">H", len(raw)) + raw


def _packet(kind: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes((kind,)) + length + body


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A variable byte integer and how many bytes it takes; 0 bytes if it is not all there."""
    value = 0
    for index in range(4):
        if at + index >= len(data):
            return 0, 0
        value |= (data[at + index] & 0x7F) << (7 * index)
        if not data[at + index] & 0x80:
            return value, index + 1
    raise Lost("not MQTT")


def _first(data: bytearray) -> tuple[int, bytes, int] | None:
    if len(data) < 2:
        return None
    length, used = _varint(data, 1)
    end = 1 + used + length
    if not used or len(data) < end:
        return None
    return data[0], bytes(data[1 + used : end]), end


def _connect(client_id: str, will: tuple[str, bytes], keepalive: int) -> bytes:
    head = _text("MQTT") + bytes((5, _CLEAN | _WILL_QOS1)) + struct.pack(">H", keepalive) + b"\0"
    return _packet(_CONNECT, head + _text(client_id) + b"\0" + _text(will[0]) + _text(will[1]))


def _subscribe(topics: tuple[str, ...]) -> bytes:
    wanted = b"".join(_text(topic) + b"\x01" for topic in topics)
    return _packet(_SUBSCRIBE, struct.pack(">H", 1) + b"\0" + wanted)
