"""The real mosquitto, as the hub runs it: who gets in, who is put out, and how it dies."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, update

from lianzhen_edge.appliance import enrolment
from lianzhen_hub.broker.configuration import BrokerSettings
from lianzhen_hub.broker.gate import Gate
from lianzhen_hub.broker.mosquitto import Broker
from lianzhen_hub.fleet.authority import Authority, serial_text
from lianzhen_hub.store.tables import certificate
from lianzhen_hub.store.tables import node as nodes
from lianzhen_protocol.claims import RekeyRequest
from lianzhen_runtime.mqtt import MAX_PACKET_BYTES, LinkLost
from support.fleet import (
    DAY,
    Live,
    MovedClock,
    Parts,
    box_clock,
    brokered,
    csr,
    key_pem,
    new_key,
    parts,
    serving,
    until,
)

Inbox = list[tuple[str, bytes]]


def up(node: str, name: str = "hello") -> str:
    return f"lz/1/{node}/up/{name}"


def down(node: str, name: str = "hello") -> str:
    return f"lz/1/{node}/down/{name}"


# -- who may say and hear what


async def test_a_box_and_the_hub_speak_with_each_other(live: Live) -> None:
    node, _, identity = await live.parts.enrolled()
    at_hub, at_box = Inbox(), Inbox()
    async with (
        live.session(live.hub_identity, "hub-x", at_hub) as hub,
        live.session(identity, "box-x", at_box) as box,
    ):
        await hub.subscribe("lz/1/+/up/#")
        await box.subscribe(down(node, "#"))
        box.publish(up(node), b"hello")
        hub.publish(down(node), b"welcome")
        await until(lambda: at_hub and at_box)
        assert at_hub == [(up(node), b"hello")]
        assert at_box == [(down(node), b"welcome")]
        assert live.broker.sessions.clients(node) == ["box-x"]
        assert live.broker.sessions.clients("hub") == ["hub-x"]
    await until(lambda: len(live.broker.sessions) == 0)


async def test_a_box_hears_and_says_nothing_under_another_name(live: Live) -> None:
    mine, _, my_identity = await live.parts.enrolled("BOX-1")
    other, _, other_identity = await live.parts.enrolled("BOX-2")
    at_hub, at_me, at_other = Inbox(), Inbox(), Inbox()
    async with (
        live.session(live.hub_identity, "hub-x", at_hub) as hub,
        live.session(my_identity, "mine", at_me) as me,
        live.session(other_identity, "other", at_other) as them,
    ):
        await hub.subscribe("lz/1/+/up/#")
        # The broker grants foreign filters, and then delivers nothing for them.
        for topic in (down(other, "#"), up(other, "#"), "lz/#", "#", "$SYS/#", down(mine, "#")):
            await me.subscribe(topic)
        await them.subscribe(down(other, "#"))
        me.publish(up(other), b"forged for the hub")
        me.publish(down(other), b"forged for the box")
        me.publish(down(mine), b"forged for myself")
        hub.publish(down(other), b"theirs")
        them.publish(up(other), b"true")
        await until(lambda: at_other and at_hub)
        me.publish(up(mine), b"last")
        hub.publish(down(mine), b"last")
        await until(lambda: at_me and len(at_hub) > 1)
    assert at_hub == [(up(other), b"true"), (up(mine), b"last")]
    assert at_other == [(down(other), b"theirs")]
    assert set(at_me) == {(down(mine), b"last")}  # once for each filter that covers it


async def test_the_hub_reads_the_brokers_counters(live: Live) -> None:
    got = Inbox()
    async with live.session(live.hub_identity, "hub-x", got) as hub:
        await hub.subscribe("$SYS/broker/version")
        await until(lambda: got)
    assert got[0][1].startswith(b"mosquitto version")


async def test_a_packet_over_the_limit_ends_the_session_and_not_the_broker(live: Live) -> None:
    node, _, identity = await live.parts.enrolled()
    at_hub = Inbox()
    async with live.session(live.hub_identity, "hub-x", at_hub) as hub:
        await hub.subscribe("lz/1/+/up/#")
        async with live.session(identity, "big") as box:
            box.publish(up(node), b"x" * (MAX_PACKET_BYTES - 200))
            await until(lambda: at_hub)
            box.publish(up(node), b"x" * (MAX_PACKET_BYTES + 1))
            with pytest.raises(LinkLost):
                await box.closed
        await until(lambda: live.broker.sessions.clients(node) == [])
        async with live.session(identity, "again") as box:
            box.publish(up(node), b"small")
            await until(lambda: len(at_hub) == 2)


# -- who gets in


def s_client(port: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=60)


async def test_tls_1_2_is_refused(live: Live) -> None:
    _, _, identity = await live.parts.enrolled()
    port = live.parts.mqtt_port
    found = await asyncio.to_thread(s_client, port, "-tls1_2", "-cert", identity, "-key", identity)
    assert "alert protocol version" in found.stderr
    await until(lambda: live.broker.sessions.refused > 0)


async def test_without_a_certificate_nobody_gets_in(live: Live) -> None:
    with pytest.raises(LinkLost):
        async with live.session_without():
            pass
    await until(lambda: live.broker.sessions.refused > 0)


async def test_a_certificate_of_another_ca_is_refused(live: Live, tmp_path: Path) -> None:
    node, key, _ = await live.parts.enrolled()
    forged = Authority(tmp_path / "forger").issue_node(key.public_key(), node)
    path = write_pair(tmp_path / "forged.pem", key_pem(key), forged)
    with pytest.raises(LinkLost):
        async with live.session(path, "forged"):
            pass


@pytest.mark.parametrize("name", ["server", "signing"])
async def test_the_hubs_other_certificates_are_no_clients(live: Live, name: str) -> None:
    live.parts.authority.signer()
    with pytest.raises(LinkLost):
        async with live.session(live.parts.folder / "ca" / f"{name}.pem", "stolen"):
            pass


def write_pair(path: Path, key: bytes, certificate: x509.Certificate) -> Path:

    path.write_bytes(key + certificate.public_bytes(Encoding.PEM))
    return path


async def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    async with parts(tmp_path / "hub", began=-40 * DAY) as hub:
        _, _, identity = await hub.enrolled()
        hub.clock.by = 0.0
        async with brokered(hub) as live:
            with pytest.raises(LinkLost):
                async with live.session(identity, "late"):
                    pass


# -- who is put out


async def test_a_revoked_box_is_put_out_and_stays_out(live: Live) -> None:
    node, _, identity = await live.parts.enrolled("BOX-1")
    other, _, other_identity = await live.parts.enrolled("BOX-2")
    at_hub, at_box = Inbox(), Inbox()
    async with (
        live.session(live.hub_identity, "hub-x", at_hub) as hub,
        live.session(other_identity, "other") as them,
        live.session(identity, "urgent", at_box) as urgent,
        live.session(identity, "bulk", at_box) as bulk,
    ):
        await hub.subscribe("lz/1/+/up/#")
        await urgent.subscribe(down(node, "#"))
        await live.gate.revoke(node, "stolen")
        for gone in (urgent, bulk):
            async with asyncio.timeout(60):
                with pytest.raises(LinkLost):
                    await gone.closed
        assert live.broker.sessions.clients(node) == []
        with pytest.raises(LinkLost):
            async with live.session(identity, "urgent"):
                pass
        them.publish(up(other), b"still here")
        await until(lambda: at_hub)
        assert not them.closed.done()
        assert not hub.closed.done()
    assert at_hub == [(up(other), b"still here")]
    assert at_box == []


async def test_even_before_the_kick_a_denied_session_says_and_hears_nothing(live: Live) -> None:
    node, _, identity = await live.parts.enrolled("BOX-1")
    other, _, other_identity = await live.parts.enrolled("BOX-2")
    at_hub, at_box = Inbox(), Inbox()
    async with (
        live.session(live.hub_identity, "hub-x", at_hub) as hub,
        live.session(other_identity, "other") as them,
        live.session(identity, "box-x", at_box) as box,
    ):
        await hub.subscribe("lz/1/+/up/#")
        await box.subscribe(down(node, "#"))
        hub.publish(down(node), b"before")
        await until(lambda: at_box)
        await live.broker.reload(live.parts.authority.revocation_list([]), [node])
        box.publish(up(node), b"after")
        hub.publish(down(node), b"after")
        await box.subscribe(down(node, "hello"))  # an answer: all before it was judged
        them.publish(up(other), b"marker")
        await until(lambda: at_hub)
        assert not box.closed.done()
        assert len(live.broker.sessions.clients(node)) == 1
    assert at_hub == [(up(other), b"marker")]
    assert at_box == [(down(node), b"before")]


async def test_a_session_ticket_does_not_outlive_the_certificate(
    live: Live, tmp_path: Path
) -> None:
    """Within a ticket's life the broker looks at no certificate; a reload makes tickets void."""
    node, _, identity = await live.parts.enrolled()
    ticket, port = tmp_path / "ticket", live.parts.mqtt_port
    pair = ("-cert", identity, "-key", identity)
    await asyncio.to_thread(take_ticket, port, ticket, *pair)
    resumed = await asyncio.to_thread(s_client, port, "-sess_in", ticket, *pair)
    assert "Reused, TLSv1.3" in resumed.stdout
    await live.gate.revoke(node, "stolen")
    before = live.broker.sessions.refused
    found = await asyncio.to_thread(s_client, port, "-sess_in", ticket, *pair)
    assert "New, TLSv1.3" in found.stdout
    await until(lambda: live.broker.sessions.refused > before)


def take_ticket(port: int, ticket: Path, *arguments: str | Path) -> None:
    where = f"127.0.0.1:{port}"
    command: list[str | Path] = ["openssl", "s_client", "-connect", where, "-sess_out", ticket]
    with subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as client:
        deadline = time.monotonic() + 10
        while not ticket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        client.kill()
    assert ticket.exists()


async def test_two_revocations_within_a_second_both_count(live: Live) -> None:
    first, _, first_identity = await live.parts.enrolled("BOX-1")
    second, _, second_identity = await live.parts.enrolled("BOX-2")
    await live.gate.revoke(first, "stolen")
    await live.gate.revoke(second, "stolen")
    for identity in (first_identity, second_identity):
        with pytest.raises(LinkLost):
            async with live.session(identity, "back"):
                pass
    await until(lambda: live.broker.sessions.refused == 2)


async def test_a_renewed_certificate_puts_the_one_before_out(live: Live) -> None:
    """The copy of a card loses its session when the original goes on under its next key."""

    fleet = live.parts.fleet
    node, _, identity = await live.parts.enrolled()
    old = x509.load_pem_x509_certificate(identity.read_bytes())
    key = new_key()
    issued = await fleet.rekey(old.public_bytes(Encoding.DER), RekeyRequest(csr=csr(key)))
    new_identity = live.parts.folder / "new.pem"
    new_identity.write_bytes(key_pem(key) + issued.certificate.encode())
    new = x509.load_pem_x509_certificate(issued.certificate.encode())
    async with live.session(identity, "copy") as copy:
        assert await fleet.used(node, serial_text(new.serial_number))
        await live.gate.step()
        with pytest.raises(LinkLost):
            await copy.closed
    with pytest.raises(LinkLost):
        async with live.session(identity, "copy"):
            pass
    async with live.session(new_identity, "original"):
        await until(lambda: live.broker.sessions.clients(node) == ["original"])


async def test_another_process_may_revoke(live: Live) -> None:
    """The command line writes to the tables; the gate finds it there."""
    node, _, identity = await live.parts.enrolled()
    gate = Gate(live.parts.fleet, live.parts.authority, live.broker, poll_s=0.05)
    async with live.session(identity, "box-x") as box, asyncio.TaskGroup() as services:
        running = services.create_task(gate.run())
        await until(lambda: live.parts.fleet.is_active(node))
        live.parts.database.write_here(lambda link: _revoke_in_tables(link, node))
        async with asyncio.timeout(60):
            with pytest.raises(LinkLost):
                await box.closed
        running.cancel()
    assert not live.parts.fleet.is_active(node)


def _revoke_in_tables(link: Connection, node: str) -> None:

    link.execute(update(nodes).where(nodes.c.id == node).values(status="revoked"))
    change = update(certificate).where(certificate.c.node == node)
    link.execute(change.values(state="revoked", revoked_ms=int(time.time() * 1000)))


# -- the list's age


async def test_a_stale_list_refuses_everybody_and_a_fresh_one_lets_them_in(
    hub: Parts,
) -> None:
    async with brokered(hub) as live:
        _, _, identity = await hub.enrolled()
        hub.clock.by = -9 * DAY
        stale = Authority(hub.folder / "ca", hub.clock).revocation_list([])
        hub.clock.by = 0.0
    broker = Broker(
        hub.folder / "broker",
        BrokerSettings(address="127.0.0.1", port=hub.mqtt_port),
        hub.authority,
    )
    await broker.reload(stale, ())
    live = Live(hub, broker, Gate(hub.fleet, hub.authority, broker))
    async with asyncio.TaskGroup() as services:
        running = services.create_task(broker.run())
        await broker.started()
        with pytest.raises(LinkLost):
            async with live.session(identity, "box-x"):
                pass
        await broker.reload(hub.authority.revocation_list([]), ())
        async with live.session(identity, "box-x"):
            pass
        running.cancel()


async def test_the_list_is_made_anew_in_time(live: Live) -> None:
    _, _, identity = await live.parts.enrolled()
    gate = Gate(live.parts.fleet, live.parts.authority, live.broker, reissue_s=0.2, poll_s=0.05)
    path = live.parts.folder / "broker" / "crl.pem"
    seen = {path.read_bytes()}

    def grew() -> bool:
        seen.add(path.read_bytes())
        return len(seen) >= 4

    async with live.session(identity, "box-x") as box, asyncio.TaskGroup() as services:
        running = services.create_task(gate.run())
        await until(grew)
        assert live.broker.crl_age_s < 5
        assert not box.closed.done()
        running.cancel()


async def test_an_unchanged_young_list_is_left_alone(live: Live) -> None:
    path = live.parts.folder / "broker" / "crl.pem"
    before = path.read_bytes()
    for _ in range(3):
        await live.gate.step()
    assert path.read_bytes() == before


async def test_a_renewed_server_certificate_is_shown_after_a_reload(tmp_path: Path) -> None:
    clock = MovedClock(-70 * DAY)
    async with parts(tmp_path / "hub") as hub:
        authority = Authority(tmp_path / "old", clock)
        settings = BrokerSettings(address="127.0.0.1", port=hub.mqtt_port)
        broker = Broker(tmp_path / "broker", settings, authority)
        before = authority.issue_hub().certificate
        await broker.reload(authority.revocation_list([]), ())
        async with asyncio.TaskGroup() as services:
            running = services.create_task(broker.run())
            await broker.started()
            assert await shown(hub.mqtt_port) == before.serial_number
            clock.by = 0.0
            await broker.reload(authority.revocation_list([]), ())
            after = authority.issue_hub().certificate
            assert after.serial_number != before.serial_number
            assert await shown(hub.mqtt_port) == after.serial_number
            running.cancel()


async def shown(port: int) -> int:

    found = await asyncio.to_thread(s_client, port, "-showcerts")
    begin = found.stdout.index("-----BEGIN CERTIFICATE-----")
    return x509.load_pem_x509_certificate(found.stdout[begin:].encode()).serial_number


# -- both doors together


async def test_an_enrolled_box_goes_straight_to_the_broker(live: Live, tmp_path: Path) -> None:
    async with serving(live.parts) as line:
        folder = tmp_path / "box"
        box = await enrolment.enrol(await line.claim(), folder, box_clock(folder))
    path = tmp_path / "pair.pem"
    path.write_bytes(box.key_file.read_bytes() + box.certificate_file.read_bytes())
    async with live.session(path, "box-x") as session:
        session.publish(up(box.node), b"hello")
        await session.drained()
        await until(lambda: live.broker.sessions.clients(box.node) == ["box-x"])
