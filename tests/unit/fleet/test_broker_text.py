"""The broker's configuration and log, as text."""

import pytest

from lianzhen_hub.broker.configuration import BrokerSettings, access_list, configuration
from lianzhen_protocol.errors import IdentityError
from lianzhen_runtime.broker_log import Sessions

NODE = "n0000000000ab"


def new(client: str, user: str = NODE) -> str:
    return f"New client connected from 10.0.0.7:4042 as {client} (p5, c1, k20, u'{user}')."


def test_nobody_comes_in_without_tls_1_3_and_a_certificate() -> None:
    lines = configuration(BrokerSettings(port=8883)).splitlines()
    for line in (
        *("tls_version tlsv1.3", "require_certificate true", "allow_anonymous false"),
        *("use_identity_as_username true", "crlfile crl.pem", "acl_file acl", "listener 8883"),
        *("persistence false", "set_tcp_nodelay true", "max_inflight_messages 1000"),
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith("user ")]


def test_an_address_cannot_bring_lines_of_its_own() -> None:
    with pytest.raises(ValueError, match="not an address"):
        configuration(BrokerSettings(address="127.0.0.1\nallow_anonymous true"))


def test_the_access_list_denies_by_name_and_allows_by_pattern() -> None:
    assert access_list([NODE]).splitlines() == [
        *("user hub", "topic read lz/1/+/up/#", "topic write lz/1/+/down/#", "topic read $SYS/#"),
        *(f"user {NODE}", f"topic deny lz/1/{NODE}/#"),
        *("pattern write lz/1/%u/up/#", "pattern read lz/1/%u/down/#"),
    ]


def test_only_node_ids_get_into_the_access_list() -> None:
    with pytest.raises(IdentityError):
        access_list(["n0000000000ab\nuser hub"])


@pytest.mark.parametrize(
    "end",
    [
        *("disconnected.", "closed its connection.", "has exceeded timeout, disconnecting."),
        *("disconnected, not authorised.", "disconnected: Protocol error."),
        *("disconnected due to oversize packet.", "disconnected due to protocol error."),
    ],
)
def test_a_session_is_there_until_its_end(end: str) -> None:
    sessions = Sessions()
    sessions.read(new("a"))
    sessions.read(new("b"))
    assert sessions.clients(NODE) == ["a", "b"]
    sessions.read(f"Client a {end}")
    assert sessions.clients(NODE) == ["b"]


def test_a_takeover_is_the_newer_users() -> None:
    sessions = Sessions()
    sessions.read(new("a"))
    sessions.read("Client a already connected, closing old connection.")
    sessions.read(new("a", "hub"))
    assert sessions.clients(NODE) == []
    assert sessions.clients("hub") == ["a"]
    sessions.read("Client a disconnected.")
    assert len(sessions) == 0


@pytest.mark.parametrize(
    "client",
    [
        *("a disconnected.", "a disconnected", "a closed its connection", "a disconnected: b"),
        *("a (p5, c1, k60, u'hub').", "a disconnected due to ", "Client a", ""),
    ],
)
def test_a_client_id_that_looks_like_a_message_hides_nobody(client: str) -> None:
    sessions = Sessions()
    sessions.read(new("a"))
    sessions.read(new(client))
    assert sorted(sessions.clients(NODE)) == sorted(["a", client])
    assert sessions.clients("hub") == []
    sessions.read(f"Client {client} disconnected.")
    assert sessions.clients(NODE) == ["a"]


def test_tls_refusals_are_counted() -> None:
    sessions = Sessions()
    sessions.read(
        "OpenSSL Error[0]: error:0A0000C7:SSL routines::peer did not return a certificate"
    )
    sessions.read("Client connection from 1.2.3.4 failed: error:0A000102:SSL routines::unsupported")
    sessions.read("Client <unknown> disconnected: Protocol error.")
    assert sessions.refused == 2
