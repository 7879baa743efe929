"""One MQTT session on the event loop: paho does the protocol, this class owns the socket.

Nothing here is durable and PUBACK proves nothing (docs/protocol.md, 3): a session is made clean,
expires when it closes, and every promise above it is an acknowledgement of the protocol's own.

MQTT 5 where the broker speaks it. One that hangs up on that without a word, as RabbitMQ 3.10 does,
is spoken to in 3.1.1 the next time: of 5 nothing is needed, it only bounds packets and says more.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from lianzhen_protocol.frame import MAX_WIRE_BYTES

CONNECT_SECONDS = 15.0
PROBE_SECONDS = 4.0
SILENT_SECONDS = 15.0
"""TCP_USER_TIMEOUT: what nobody acknowledges for so long ends the session. TCP itself doubles its
pauses, and would notice half a minute late that a line has come back.
"""

UNSENT_BYTES = 16 << 10
"""TCP_NOTSENT_LOWAT: what may wait in the kernel, where no priority can overtake it."""

MAX_PACKET_BYTES = MAX_WIRE_BYTES + 1024
MAX_IN_FLIGHT = 1000
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)

_ALERTS = {
    "certificate revoked": "certificate-revoked",
    "certificate expired": "certificate-expired",
    "unknown ca": "certificate-foreign",
    "bad certificate": "certificate-refused",
}


class LinkLost(OSError):
    """No session: ``code`` says why, the text is for a person. ``reached``: somebody was there,
    and it cost him work.
    """

    def __init__(self, message: str, code: str = "unreachable", *, reached: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.reached = reached


class Login(NamedTuple):
    """Who we are to a broker that asks for no certificate."""

    user: str
    password: str


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


class Will(NamedTuple):
    """What the broker says for us when we vanish."""

    topic: str
    payload: bytes


OnMessage = Callable[[str, bytes], None]


def _reached(error: Exception) -> bool:
    """Whether a connection came as far as a handshake that the other side did not just hang up."""
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    return isinstance(error, TimeoutError) and "handshake" in str(error)


async def probe(address: Address) -> None:
    """LinkLost, not reached, if no TCP connection comes about within PROBE_SECONDS."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(*address)
    except (OSError, TimeoutError) as error:
        raise LinkLost(
            f"{address.host}:{address.port} does not answer: {error}", reached=False
        ) from error
    writer.close()


class Session:
    """An open session. ``closed`` fails with LinkLost when it ends for any reason but ours."""

    def __init__(self, client: paho.Client, on_message: OnMessage) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._flushed: asyncio.Future[None] = self._loop.create_future()
        self._flushed.set_result(None)
        self._on_message = on_message
        self._subscribed: dict[int, asyncio.Future[None]] = {}
        self._misc: asyncio.TimerHandle | None = None
        self._error = ""
        self._socket: ssl.SSLSocket | socket.socket | None = None
        client.on_socket_open = self._socket_opened
        client.on_socket_close = self._socket_closing
        client.on_connect = self._answered
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribe_answered
        client.on_message = self._received
        client.on_log = self._note

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand one message to the session, QoS 1. ``drained`` says when the next may follow."""
        self._client.publish(topic, payload, qos=1)

    async def drained(self) -> None:
        """Return when all that was published is in the kernel, or the session is lost."""
        await asyncio.wait({self._flushed, self.closed}, return_when=asyncio.FIRST_COMPLETED)
        if self.closed.done():
            self.closed.result()

    async def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1, and return when the broker has answered."""
        _, number = self._client.subscribe([(each, 1) for each in filters])
        if number is None:
            raise LinkLost("the session was lost before it began")
        answer = self._subscribed.setdefault(number, self._loop.create_future())
        await self._within(answer, "the broker does not answer")

    # -- life

    async def open(self, address: Address) -> None:
        """Connect and wait for the broker's word; LinkLost if it is not a welcome."""
        opening: dict[str, Any] = {}
        if self._client.protocol == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MAX_PACKET_BYTES
            opening = {"clean_start": True, "properties": properties}
        # The helper thread only shakes hands. If it wrote to a broker that has refused us, the
        # failed write would hide the alert that says why.
        self._client.on_socket_register_write = lambda *_: None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.to_thread(
                    self._client.connect,
                    *address,
                    keepalive=self._client.keepalive,  # connect would set it back to 60
                    **opening,
                )
        except ssl.SSLCertVerificationError as error:
            raise LinkLost(f"the broker's certificate: {error}", "peer-untrusted") from error
        except (OSError, TimeoutError) as error:
            raise LinkLost(
                f"{address.host}:{address.port} does not answer: {error}", reached=_reached(error)
            ) from error
        # From here on the loop owns the socket.
        self._client.on_socket_register_write = self._want_write
        self._client.on_socket_unregister_write = self._no_write
        if self._socket is None:
            raise LinkLost(f"{address.host}:{address.port} hung up")
        self._loop.add_reader(self._socket, self._read)
        self._read()
        if self._socket is not None:
            self._want_write(self._client, None, self._socket)
        self._tick()
        await self._within(self._connected, "the broker does not answer")

    async def close(self) -> None:
        """Say good-bye and let go of the socket, whatever state it is in."""
        if self._misc is not None:
            self._misc.cancel()
        if self._client.is_connected() and not self.closed.done():
            with contextlib.suppress(TimeoutError, LinkLost):
                async with asyncio.timeout(1.0):
                    await self.drained()
            self.closed.cancel()  # by us: nothing was lost
            self._client.disconnect()
            self._client.loop_write()
        # A client that never came as far as DISCONNECT still holds its socket.
        if self._socket is not None:
            leaving, self._socket = self._socket, None
            self._loop.remove_reader(leaving)
            self._loop.remove_writer(leaving)
            leaving.close()
        for future in (self.closed, self._connected, *self._subscribed.values()):
            future.cancel()

    async def _within(self, future: asyncio.Future[None], complaint: str) -> None:
        done, _ = await asyncio.wait(
            {future, self.closed}, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            raise LinkLost(complaint)
        if self.closed in done and not future.done():
            self.closed.result()
        future.result()

    # -- paho's callbacks; ``_socket_opened`` may run in the connecting thread

    def _socket_opened(self, _client: paho.Client, _data: Any, opened: Any) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        opened.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(SILENT_SECONDS * 1000))
        self._socket = opened

    def _socket_closing(self, _client: paho.Client, _data: Any, leaving: Any) -> None:
        if self._socket is not None:
            self._loop.remove_reader(leaving)
            self._loop.remove_writer(leaving)
            self._socket = None

    def _want_write(self, _client: paho.Client, _data: Any, writing: Any) -> None:
        if self._flushed.done():
            self._flushed = self._loop.create_future()
        self._loop.add_writer(writing, self._write)

    def _no_write(self, _client: paho.Client, _data: Any, writing: Any) -> None:
        self._loop.remove_writer(writing)
        if not self._flushed.done():
            self._flushed.set_result(None)

    def _answered(
        self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        if code.is_failure:
            self._lose(LinkLost(f"the broker refuses the session: {code}", "refused"))
        elif not self._connected.done():
            self._connected.set_result(None)

    def _subscribe_answered(
        self, _client: paho.Client, _data: Any, number: int, codes: list[ReasonCode], _p: Any
    ) -> None:
        future = self._subscribed.setdefault(number, self._loop.create_future())
        if future.done():
            return
        if any(code.is_failure for code in codes):
            future.set_exception(LinkLost(f"the broker refuses: {codes[0]}", "refused"))
        else:
            future.set_result(None)

    def _received(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload))

    def _disconnected(
        self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        alert = next((name for text, name in _ALERTS.items() if text in self._error), "lost")
        self._lose(LinkLost(f"the session ended: {code} {self._error}".rstrip(), alert))

    def _note(self, _client: paho.Client, _data: Any, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:
            self._error = text

    # -- the loop's callbacks

    def _guard(self, step: Callable[[], MQTTErrorCode]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits on the session
            self._lose(error)

    def _read(self) -> None:
        self._guard(self._client.loop_read)
        # TLS may hold a whole record that the selector cannot see.
        while isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            self._guard(self._client.loop_read)

    def _write(self) -> None:
        self._guard(self._client.loop_write)

    def _tick(self) -> None:
        self._guard(self._client.loop_misc)
        if not self.closed.done():
            self._misc = self._loop.call_later(1.0, self._tick)

    def _lose(self, error: Exception) -> None:
        if not self.closed.done():
            self.closed.set_exception(error)
            self.closed.exception()  # seen: a session that nobody waits on may end unheard


@contextlib.asynccontextmanager
async def session(
    address: Address,
    client_id: str,
    context: ssl.SSLContext | None,
    on_message: OnMessage,
    *,
    will: Will | None = None,
    login: Login | None = None,
    keepalive: int = 20,
    durable: bool = False,
) -> AsyncIterator[Session]:
    """A session for the length of a block. ``on_message`` runs on the loop and must not wait.

    ``context`` None is without TLS. ``keepalive`` (seconds) is also how long a half-open line goes
    unnoticed, one and a half times. ``durable``: the broker keeps what comes meanwhile for the
    next session of this ``client_id`` (MQTT 3.1.1, clean session false).
    """
    version = _V3 if durable else _spoken.get(address, _V5)
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=not durable if version == _V3 else None,
        protocol=version,
        reconnect_on_failure=False,
    )
    if context is not None:
        client.tls_set_context(context)
    client.keepalive = keepalive
    client.connect_timeout = CONNECT_SECONDS
    client.max_inflight_messages_set(MAX_IN_FLIGHT)
    client.max_queued_messages_set(0)  # bounded above, by credit
    if login is not None:
        client.username_pw_set(*login)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1)
    opened = Session(client, on_message)
    try:
        await _open(opened, address, version)
        yield opened
    finally:
        await opened.close()


_V3, _V5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5
_spoken: dict[Address, MQTTProtocolVersion] = {}
"""What each broker is spoken to in, where that is not MQTT 5."""


async def _open(opened: Session, address: Address, version: MQTTProtocolVersion) -> None:
    try:
        await opened.open(address)
    except LinkLost as lost:
        if lost.code == "lost":  # it shook hands, and hung up on the first packet
            _spoken[address] = _V5 if version == _V3 else _V3
        raise
    _spoken[address] = version
