"""The hub on three RabbitMQ nodes: one is killed, comes back, then the next, and nothing is lost.

The last line of its output is JSON: the longest time in which the hub committed nothing, at each
death of a node.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from integration.test_sync import _context, _identity
from lab import BoxProgram, HubProgram, free_ports, lab, wait_until
from lianzhen_hub.fleet.authority import Authority
from lianzhen_protocol.topics import Channel, Direction, Topic
from lianzhen_runtime import mqtt
from rabbitmq import PROGRAM, Balancer, Cluster
from support.lab_fixtures import HubLedger, Note, notes, put_all, settled

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="rabbitmq-server is not installed")

STREAM = "alarm.cluster"
PER_DEATH = 1500
BATCH = 10


class Site(NamedTuple):
    """A hub whose broker is a cluster, and a box behind a load balancer."""

    cluster: Cluster
    hub: HubProgram
    box: BoxProgram
    node: str
    ledger: HubLedger


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with lab() as made:
        (auth_port,) = free_ports(1)
        hub = made.hub(broker="own", broker_auth_port=auth_port)
        folder = hub.state / "ca"
        authority = Authority(folder)
        ca = hub.state / "broker-ca.pem"
        ca.write_text(authority.ca_pem)
        server = authority.issue_hub(["127.0.0.1"]).path
        cluster = Cluster(made.folder / "rabbitmq", ca, server, auth_port)
        ports = [node.mqtt_port for node in cluster.nodes]
        nodes = ",".join(f"127.0.0.1:{port}" for port in ports)
        text = hub.config.read_text().replace('broker = "own"', f'broker = "mqtts://{nodes}"')
        hub.config.write_text(text)
        hub.start()
        balancer = Balancer(hub.mqtt_port, ports)
        try:
            cluster.start()
            hub.wait()
            box = made.box().start()
            node = box.enrol(hub)
            ledger = HubLedger(hub)
            yield Site(cluster, hub, box, node, ledger)
            ledger.close()
        finally:
            balancer.close()
            cluster.stop()


def carry(site: Site, kill: int | None, sent: list[Note]) -> float:
    """Put and watch; the longest pause between two commits while a node dies."""
    before, at = site.ledger.count(STREAM), time.monotonic()
    longest, goal = 0.0, len(sent) + PER_DEATH
    for number in range(PER_DEATH // BATCH):
        fresh = notes(BATCH)
        put_all(site.box, fresh, STREAM)
        sent += fresh
        if kill is not None and number == 20:
            site.cluster.nodes[kill].kill()
        now, seen = time.monotonic(), site.ledger.count(STREAM)
        if seen > before:
            longest, before, at = max(longest, now - at), seen, now

    def done() -> bool:
        nonlocal before, at, longest
        now, seen = time.monotonic(), site.ledger.count(STREAM)
        if seen > before:
            longest, before, at = max(longest, now - at), seen, now
        return seen >= goal

    wait_until("everything at the hub", done, 60)
    return longest


@pytest.mark.timeout(900)
def test_each_node_dies_and_nothing_is_lost(site: Site) -> None:
    sent: list[Note] = []
    found = {"none": carry(site, None, sent)}
    for number, node in enumerate(site.cluster.nodes):
        found[node.name] = carry(site, number, sent)
        node.start().wait()
    settled(site.box, site.ledger, len(sent), STREAM)
    assert site.ledger.ids(STREAM) == [each.id for each in sent]  # each once, in order
    stalls = {name: round(seconds, 2) for name, seconds in found.items()}
    print(json.dumps({"records": len(sent), "stall_s": stalls}))
    assert max(found.values()) < 90


@pytest.mark.timeout(300)
async def test_a_box_may_use_its_own_topics_and_no_others(site: Site) -> None:
    who = _identity(site.box)
    address = mqtt.Address("127.0.0.1", site.cluster.nodes[0].mqtt_port)
    heard: list[str] = []
    mine = Topic(who.node, Direction.DOWN, Channel.STREAM, "record.x")

    async def try_to(client: str, *, publish: str = "", subscribe: str = "") -> str:
        """How a session ends that tries something; "" if it goes well."""
        try:
            async with mqtt.session(
                address, client, _context(who), lambda topic, _: heard.append(topic)
            ) as line:
                if subscribe:
                    await line.subscribe(subscribe)
                if publish:
                    line.publish(publish, b"x")
                    await line.drained()
                    await line.subscribe(f"lz/1/{who.node}/down/ack")  # it still answers
        except mqtt.LinkLost as lost:
            return lost.code
        return ""

    own = f"{who.node}.test"
    mqtt._spoken[address] = mqtt._V3
    assert await try_to(own, publish=f"lz/1/{who.node}/up/stream/telemetry.x") == ""
    assert await try_to(own, subscribe=f"lz/1/{who.node}/down/#") == ""
    for topic in ("lz/1/n0000000000aa/up/stream/telemetry.x", str(mine)):
        mqtt._spoken[address] = mqtt._V3
        assert await try_to(own, publish=topic) != "", topic
    for topic in ("lz/1/+/up/#", "lz/1/n0000000000aa/down/#", "#"):
        mqtt._spoken[address] = mqtt._V3
        assert await try_to(own, subscribe=topic) != "", topic
    mqtt._spoken[address] = mqtt._V3
    assert await try_to("hub.ingest", publish="") != "", "another's session"
    assert heard == []
    assert site.hub.healthy()


def test_a_revoked_box_is_denied_at_once(site: Site) -> None:
    site.hub.ask("revoke", site.node, "--reason", "test")
    put_all(site.box, notes(1), "alarm.revoked")
    wait_until("a box that is out", lambda: not site.box.online(), 60)
    assert site.ledger.count("alarm.revoked") == 0


def test_the_cookie_is_for_its_owner(site: Site) -> None:
    cookie = Path(site.cluster.folder) / ".erlang.cookie"
    assert cookie.stat().st_mode & 0o077 == 0
