"""A broker that asks the hub who may do what, and how the hub is told where it is."""

from pathlib import Path

import pytest

from lianzhen_hub.broker.asking import QUESTIONS, allowed
from lianzhen_hub.broker.external import ExternalBroker, addresses
from rabbitmq import PLUGINS, configuration

NODE, OTHER, GONE = "n0123456789ab", "nzzzzzzzzzzzz", "n0000000000aa"


def may(question: str, **asked: str) -> bool:
    return allowed(question, {"name": "amq.topic"} | asked, {NODE, OTHER}.__contains__)


@pytest.mark.parametrize("who", [GONE, "", "hub-signing", "guest"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_who_is_not_of_the_fleet_may_nothing(who: str, question: str) -> None:
    key = f"lz.1.{who}.up.hello"
    assert not may(question, username=who, client_id=f"{who}.x", permission="write",
                   resource="exchange", routing_key=key)  # fmt: skip


@pytest.mark.parametrize(
    ("who", "permission", "key", "expected"),
    [
        (NODE, "write", f"lz.1.{NODE}.up.hello", True),
        (NODE, "write", f"lz.1.{NODE}.up.stream.record.people", True),
        (NODE, "read", f"lz.1.{NODE}.down.#", True),
        (NODE, "write", f"lz.1.{OTHER}.up.hello", False),
        (NODE, "write", f"lz.1.{NODE}.down.ack", False),
        (NODE, "read", f"lz.1.{OTHER}.down.#", False),
        (NODE, "read", "lz.1.*.down.#", False),
        (NODE, "read", "#", False),
        (NODE, "configure", f"lz.1.{NODE}.up.hello", False),
        ("hub", "read", "lz.1.*.up.#", True),
        ("hub", "write", f"lz.1.{NODE}.down.ack", True),
        ("hub", "write", f"lz.1.{NODE}.up.hello", False),
        ("hub", "read", "#", False),
    ],
)
def test_everybody_has_topics_of_their_own(
    who: str, permission: str, key: str, expected: bool
) -> None:
    assert may("topic", username=who, permission=permission, routing_key=key) is expected


def test_a_session_and_its_queue_are_their_owners() -> None:
    assert may("vhost", username=NODE, client_id=f"{NODE}.urgent.ab")
    assert not may("vhost", username=NODE, client_id="hub.ingest")
    assert not may("vhost", username=NODE, client_id=f"{OTHER}.urgent.ab")
    queue = {"username": NODE, "resource": "queue", "permission": "configure"}
    assert may("resource", **queue, name=f"mqtt-subscription-{NODE}.urgent.abqos1")
    assert not may("resource", **queue, name="mqtt-subscription-hub.ingestqos1")
    assert not may("resource", username=NODE, resource="exchange", name="amq.direct",
                   permission="write")  # fmt: skip


def test_each_attempt_is_at_the_next_node() -> None:
    broker = ExternalBroker("mqtts://a.example:8883,10.0.0.2:8884")
    assert [broker.address.port for _ in range(3)] == [8883, 8884, 8883]


@pytest.mark.parametrize("url", ["", "own2", "mqtt://a:1", "mqtts://a", "mqtts://a:x", "mqtts://"])
def test_what_names_no_broker_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="broker is"):
        addresses(url)


def test_a_node_takes_certificates_asks_the_hub_and_keeps_with_a_majority() -> None:
    files = {"ca": Path("/x/ca.pem"), "server": Path("/x/server.pem")}
    text = configuration(["a@localhost", "b@localhost"], mqtt_port=1, files=files, auth_port=2)
    lines = dict(line.split(" = ", 1) for line in text.splitlines())
    assert lines["listeners.tcp"] == lines["mqtt.listeners.tcp"] == "none"
    assert lines["ssl_options.fail_if_no_peer_cert"] == "true"
    assert lines["mqtt.ssl_cert_login"] == "true"
    assert lines["mqtt.durable_queue_type"] == "quorum"
    assert lines["cluster_partition_handling"] == "pause_minority"
    for question in QUESTIONS:
        assert lines[f"auth_http.{question}_path"].endswith(f":2/broker/v1/{question}")
    assert "rabbitmq_auth_backend_http" in PLUGINS
