"""TLS on loopback: our clock decides what is expired, the name decides who is there."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from lianzhen_hub.fleet.authority import HUB_LIFE, NODE_LIFE, Authority
from lianzhen_protocol.identity import HUB_NAME
from lianzhen_runtime import tls
from support.fleet import DAY, MovedClock, key_pem, new_key

NODE = "n0123456789ab"
Dial = Callable[[int, ssl.SSLContext], Awaitable[bytes]]


async def by_stream(port: int, context: ssl.SSLContext) -> bytes:
    """As aiohttp dials: asyncio's transport, through ``wrap_bio``."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            return await reader.read()
        finally:
            writer.close()


async def by_socket(port: int, context: ssl.SSLContext) -> bytes:
    """As paho dials: a blocking socket, through ``wrap_socket``, the handshake by itself."""

    def dial() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as bare,
            context.wrap_socket(bare, do_handshake_on_connect=False) as wrapped,
        ):
            wrapped.do_handshake()
            return wrapped.recv(1000)

    return await asyncio.to_thread(dial)


@pytest.fixture(params=[by_stream, by_socket], ids=["wrap_bio", "wrap_socket"])
def dial(request: pytest.FixtureRequest) -> Dial:
    found: Dial = request.param
    return found


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that tells each caller whose certificate it showed."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("peercert") or {}
        names = [value for ((_, value),) in shown.get("subject", ())]
        with contextlib.suppress(OSError):
            writer.write(b"you are " + "".join(names).encode())
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Place:
    """An authority whose clock was moved, a hub under it, and a box's certificate."""

    def __init__(self, folder: Path, moved_s: float = 0.0) -> None:
        self.authority = Authority(folder / "ca", MovedClock(moved_s))
        self.hub = self.authority.issue_hub().path
        key = new_key()
        shown = self.authority.issue_node(key.public_key(), NODE).public_bytes(Encoding.PEM)
        self.box = folder / "box.pem"
        self.box.write_bytes(key_pem(key) + shown)

    def server(self) -> ssl.SSLContext:
        return tls.server_context(self.hub, self.hub, self.authority.ca_pem)

    def client(
        self, clock: tls.Clock | None = time.time, peer: str = HUB_NAME, *, bare: bool = False
    ) -> ssl.SSLContext:
        identity = None if bare else (self.box, self.box)
        return tls.client_context(self.authority.ca_pem, clock, peer, identity)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_the_right_peer_is_talked_to_and_knows_us(place: Place, dial: Dial) -> None:
    async with serving(place.server()) as port:
        assert await dial(port, place.client()) == f"you are {NODE}".encode()
        assert await dial(port, place.client(bare=True)) == b"you are "


async def test_a_peer_of_another_name_is_refused_whatever_address_was_dialled(
    place: Place, dial: Dial
) -> None:
    async with serving(place.server()) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
            await dial(port, place.client(peer="other.lianzhen.internal"))


async def test_a_peer_of_another_authority_is_refused(
    place: Place, dial: Dial, tmp_path: Path
) -> None:
    async with serving(Place(tmp_path / "other").server()) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|local issuer"):
            await dial(port, place.client())


async def test_a_boxs_certificate_makes_no_server(place: Place, dial: Dial) -> None:
    fake = tls.server_context(place.box, place.box)
    async with serving(fake) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial(port, place.client(peer=NODE))


# -- the time is ours and not the system's


@pytest.mark.parametrize(
    ("days", "word"),
    [(HUB_LIFE / timedelta(days=1) + 1, "ended"), (-2, "begins"), (-20_000, "begins")],
)
async def test_by_our_clock_it_is_not_valid_though_the_systems_is_right(
    place: Place, dial: Dial, days: float, word: str
) -> None:
    async with serving(place.server()) as port:
        with pytest.raises(tls.NotValidNow, match=word):
            await dial(port, place.client(MovedClock(days * DAY)))


@pytest.mark.parametrize("days", [-400.0, 400.0], ids=["expired", "not-yet-valid"])
async def test_by_our_clock_it_is_valid_though_the_systems_says_no(
    tmp_path: Path, dial: Dial, days: float
) -> None:
    """Both certificates and the root lie outside of the system's time."""
    place = Place(tmp_path, days * DAY)
    server = tls.server_context(place.hub, place.hub)  # asks for no certificate
    async with serving(server) as port:
        assert await dial(port, place.client(MovedClock(days * DAY))) == b"you are "
        with pytest.raises(tls.NotValidNow):
            await dial(port, place.client())


async def test_before_the_time_is_known_it_can_be_asked_for(tmp_path: Path, dial: Dial) -> None:
    place = Place(tmp_path, -400 * DAY)
    async with serving(tls.server_context(place.hub, place.hub)) as port:
        assert await dial(port, place.client(None)) == b"you are "
        with pytest.raises(ssl.SSLCertVerificationError):  # the name still counts
            await dial(port, place.client(None, peer="other.lianzhen.internal"))


async def test_the_hub_refuses_a_box_whose_certificate_ran_out(tmp_path: Path) -> None:
    late = Place(tmp_path, -(NODE_LIFE / timedelta(days=1) + 1) * DAY)
    async with serving(late.server()) as port:
        with contextlib.suppress(OSError):  # TLS 1.3: the client hears of it with its first read
            assert await by_stream(port, late.client(late.authority._clock)) == b""


async def test_a_socket_whose_handshake_failed_is_closed(place: Place) -> None:
    """By us, since paho drops it where it is: a box would collect them while its hub is wrong."""

    def dial(port: int) -> socket.socket:
        bare = socket.create_connection(("127.0.0.1", port), timeout=60)
        wrapped = place.client(MovedClock(-DAY)).wrap_socket(bare, do_handshake_on_connect=False)
        with pytest.raises(tls.NotValidNow):
            wrapped.do_handshake()
        return wrapped

    async with serving(place.server()) as port:
        assert (await asyncio.to_thread(dial, port)).fileno() == -1


# -- versions


def old_fashioned(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


async def test_a_server_of_tls_1_2_is_refused(place: Place, dial: Dial) -> None:
    async with serving(old_fashioned(place.server())) as port:
        with pytest.raises(OSError):  # noqa: PT011 - asyncio's server hangs up without an alert
            await dial(port, place.client())


async def test_a_client_of_tls_1_2_is_refused(place: Place, dial: Dial) -> None:
    async with serving(place.server()) as port:
        assert await dial(port, place.client())
        with pytest.raises(OSError):  # noqa: PT011 - see above
            await dial(port, old_fashioned(place.client()))
