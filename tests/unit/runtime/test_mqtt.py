"""One MQTT session against a real broker, over TLS, and what happens when it breaks."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from lab import free_ports, wait_until
from lianzhen_hub.broker import configuration as broker
from lianzhen_hub.fleet.authority import Authority
from lianzhen_protocol.frame import MAX_WIRE_BYTES
from lianzhen_protocol.identity import HUB_NAME
from lianzhen_runtime import mqtt, tls
from lianzhen_runtime.mosquitto import CONFIGURATION
from lianzhen_runtime.mqtt import Address, LinkLost, Session, Will
from support.fleet import key_pem, new_key, until
from support.lab_fixtures import needs_tool

pytestmark = needs_tool("mosquitto")

NODE = "n0123456789ab"
UP = f"lz/1/{NODE}/up"
Got = list[tuple[str, bytes]]


class Mosquitto:
    """The broker with the hub's own configuration, and who may come to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "ca")
        self.hub = self.authority.hub_client().path
        self.box = folder / "box.pem"
        key = new_key()
        shown = self.authority.issue_node(key.public_key(), NODE).public_bytes(Encoding.PEM)
        self.box.write_bytes(key_pem(key) + shown)
        self.process: subprocess.Popen[bytes] | None = None
        (folder / broker.CA).write_text(self.authority.ca_pem)
        (folder / broker.SERVER).write_bytes(self.authority.issue_hub().path.read_bytes())
        (folder / broker.CRL).write_bytes(self.authority.revocation_list([]))
        (folder / broker.ACL).write_text(broker.access_list())
        (folder / broker.ACL).chmod(0o600)

    def start(self) -> None:
        (port,) = free_ports(1)
        self.address = Address("127.0.0.1", port)
        settings = broker.BrokerSettings(address="127.0.0.1", port=port)
        text = broker.configuration(settings)
        if os.geteuid() == 0:
            text += "user root\n"
        (self.folder / CONFIGURATION).write_text(text)
        with (self.folder / "log").open("wb") as log:
            command = ["mosquitto", "-c", CONFIGURATION]
            self.process = subprocess.Popen(command, cwd=self.folder, stderr=log, stdout=log)
        wait_until("a broker that listens", self._listens)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(self.address) == 0

    def session(
        self, identity: Path, got: Got, will: Will | None = None, peer: str = HUB_NAME
    ) -> contextlib.AbstractAsyncContextManager[Session]:
        context = tls.client_context(self.authority.ca_pem, time.time, peer, (identity, identity))

        def take(topic: str, payload: bytes) -> None:
            got.append((topic, payload))

        return mqtt.session(self.address, identity.stem, context, take, will=will)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("broker"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def doomed(place: Mosquitto, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that this test may kill."""
    made = Mosquitto(tmp_path)
    made.start()
    yield made
    made.stop()


class Pair:
    """The hub's session, which hears all that boxes say, and a box's."""

    def __init__(self, hub: Session, box: Session, at_hub: Got, at_box: Got) -> None:
        self.hub, self.box, self.at_hub, self.at_box = hub, box, at_hub, at_box


@pytest.fixture
async def pair(place: Mosquitto) -> AsyncIterator[Pair]:
    at_hub, at_box = Got(), Got()
    async with (
        place.session(place.hub, at_hub) as hub,
        place.session(place.box, at_box) as box,
    ):
        await hub.subscribe("lz/1/+/up/#")
        await box.subscribe(f"lz/1/{NODE}/down/#")
        yield Pair(hub, box, at_hub, at_box)


async def arrived(got: Got, count: int) -> None:
    """Return when that many messages are in."""
    await until(lambda: len(got) >= count, f"{count} messages")


async def lost(session: Session) -> LinkLost:
    """How a session ends that is about to."""
    with pytest.raises(LinkLost) as caught:
        async with asyncio.timeout(60):
            await session.closed
    return caught.value


# -- carrying


async def test_messages_go_both_ways(pair: Pair) -> None:
    pair.box.publish(f"{UP}/hello", b"hello")
    await arrived(pair.at_hub, 1)
    pair.hub.publish(f"lz/1/{NODE}/down/hello", b"welcome")
    await arrived(pair.at_box, 1)
    assert pair.at_hub == [(f"{UP}/hello", b"hello")]
    assert pair.at_box == [(f"lz/1/{NODE}/down/hello", b"welcome")]


@pytest.mark.parametrize("size", [0, 1 << 14, 1 << 20, MAX_WIRE_BYTES])
async def test_the_largest_frame_goes_through(pair: Pair, size: int) -> None:
    payload = os.urandom(size)
    for _ in range(2):
        pair.box.publish(f"{UP}/stream/study", payload)
        async with asyncio.timeout(60):
            await pair.box.drained()
    await arrived(pair.at_hub, 2)
    assert pair.at_hub == [(f"{UP}/stream/study", payload)] * 2


async def test_hundreds_of_small_ones_come_in_their_order(pair: Pair) -> None:
    sent = [b"%d" % number for number in range(800)]
    for payload in sent:
        pair.box.publish(f"{UP}/stream/alarm", payload)
    await pair.box.drained()
    await arrived(pair.at_hub, len(sent))
    assert [payload for _, payload in pair.at_hub] == sent


async def test_with_nothing_to_send_it_is_drained(pair: Pair) -> None:
    async with asyncio.timeout(60):
        await pair.box.drained()


async def test_small_messages_do_not_wait_for_company(pair: Pair) -> None:
    for session in (pair.box, pair.hub):
        assert session._socket is not None
        assert session._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        waiting = session._socket.getsockopt(socket.IPPROTO_TCP, mqtt._TCP_NOTSENT_LOWAT)
        assert waiting == mqtt.UNSENT_BYTES


# -- wills


async def said_after(pair: Pair, count: int) -> Got:
    """What the hub heard, up to something that it is sure to hear."""
    pair.box.publish(f"{UP}/hello", b"done")
    await until(lambda: (f"{UP}/hello", b"done") in pair.at_hub and len(pair.at_hub) >= count)
    return pair.at_hub


async def test_a_line_that_is_cut_leaves_the_will(place: Mosquitto, pair: Pair) -> None:
    will = Will(f"{UP}/presence", b"gone")
    twin = place.folder / "twin.pem"  # another client id under the same name
    twin.write_bytes(place.box.read_bytes())
    async with place.session(twin, Got(), will) as cut:
        assert cut._socket is not None
        cut._socket.shutdown(socket.SHUT_RDWR)
        await lost(cut)
    assert (will.topic, will.payload) in await said_after(pair, 2)


async def test_a_good_bye_leaves_none(place: Mosquitto, pair: Pair) -> None:
    twin = place.folder / "twin.pem"
    twin.write_bytes(place.box.read_bytes())
    async with place.session(twin, Got(), Will(f"{UP}/presence", b"gone")) as polite:
        polite.publish(f"{UP}/presence", b"good-bye")
    await arrived(pair.at_hub, 1)
    heard = [payload for _, payload in await said_after(pair, 2)]
    assert heard == [b"good-bye", b"done"]


# -- breaking


async def test_a_broker_that_is_killed_ends_the_session(doomed: Mosquitto) -> None:
    async with doomed.session(doomed.box, Got()) as session:
        doomed.signal(signal.SIGKILL)
        error = await lost(session)
        assert error.code == "lost"
        assert "the session ended" in str(error)
        with pytest.raises(LinkLost):
            await session.drained()


async def test_a_broker_that_does_not_read_holds_us_up_until_it_dies(doomed: Mosquitto) -> None:
    async with doomed.session(doomed.box, Got()) as session:
        doomed.signal(signal.SIGSTOP)
        for _ in range(30):
            session.publish(f"{UP}/stream/study", bytes(1 << 20))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.drained()
        doomed.signal(signal.SIGKILL)
        with pytest.raises(LinkLost):
            async with asyncio.timeout(60):
                await session.drained()


async def test_where_nobody_listens_it_says_so_at_once(place: Mosquitto) -> None:
    (port,) = free_ports(1)
    context = tls.client_context(place.authority.ca_pem, time.time, HUB_NAME)
    began = time.monotonic()
    with pytest.raises(LinkLost, match=f"127.0.0.1:{port} does not answer: .*refused") as caught:
        async with mqtt.session(Address("127.0.0.1", port), "box", context, lambda *_: None):
            pass
    assert time.monotonic() - began < 2
    assert caught.value.code == "unreachable"


async def test_a_broker_that_is_somebody_else_is_not_talked_to(place: Mosquitto) -> None:
    with pytest.raises(LinkLost, match="the broker's certificate: ") as caught:
        async with place.session(place.box, Got(), peer="other.lianzhen.internal"):
            pass
    assert caught.value.code == "peer-untrusted"


async def test_a_box_of_another_authority_is_put_out(place: Mosquitto, tmp_path: Path) -> None:
    other, key = Authority(tmp_path / "ca"), new_key()
    shown = other.issue_node(key.public_key(), NODE).public_bytes(Encoding.PEM)
    foreign = tmp_path / "box.pem"
    foreign.write_bytes(key_pem(key) + shown)
    with pytest.raises(LinkLost) as caught:
        async with place.session(foreign, Got()):
            pass
    assert caught.value.code == "certificate-foreign"


async def test_a_server_that_speaks_no_mqtt_is_lost_soon(
    place: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "CONNECT_SECONDS", 0.3)
    mute = tls.server_context(path := place.authority.issue_hub().path, path)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0, ssl=mute) as server:
        address = Address(*server.sockets[0].getsockname())
        context = tls.client_context(place.authority.ca_pem, time.time, HUB_NAME)
        with pytest.raises(LinkLost, match="does not answer"):
            async with mqtt.session(address, "box", context, lambda *_: None):
                pass


async def test_a_block_that_fails_lets_go_of_the_line(place: Mosquitto) -> None:
    with pytest.raises(ZeroDivisionError):
        async with place.session(place.box, Got()) as session:
            raise ZeroDivisionError
    assert session._socket is None
    assert session.closed.cancelled()
