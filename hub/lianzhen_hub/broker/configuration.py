"""What mosquitto is told: its configuration and its access list, as text. Pure.

File names are relative to the broker's working folder, so that the folders above it may stay
closed to the user that the broker runs as. mosquitto.conf(5), 2.0.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from lianzhen_protocol.identity import HUB, node_id
from lianzhen_protocol.topics import ACL_HUB, ACL_PATTERNS, ROOT
from lianzhen_runtime.config import Section
from lianzhen_runtime.mqtt import MAX_IN_FLIGHT, MAX_PACKET_BYTES

CA, SERVER, CRL, ACL = "ca.pem", "server.pem", "crl.pem", "acl"
_ADDRESS: Final = re.compile(r"[0-9A-Za-z.:_-]+")
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class BrokerSettings(Section, frozen=True):
    """The broker's part of the hub's configuration file."""

    address: str = ""
    """Address to listen on; empty for all of them, IPv4 and IPv6."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8883
    max_connections: _Positive = 100_000
    max_queued_messages: _Positive = 20_000
    """For one slow client, above those in flight; beyond it the broker drops, and frames are
    sent again by whoever wrote them."""

    max_queued_bytes: _Positive = 64 << 20
    sys_interval_s: _Positive = 10
    user: str = "mosquitto"
    """Whom the broker runs as where the hub is root."""


def configuration(settings: BrokerSettings) -> str:
    """mosquitto.conf. TLS 1.3 and a client certificate for everyone, the hub included."""
    if settings.address and not _ADDRESS.fullmatch(settings.address):
        raise ValueError(f"not an address to listen on: {settings.address!r}")
    lines = (
        "per_listener_settings false",
        f"listener {settings.port} {settings.address}".rstrip(),
        "protocol mqtt",
        "tls_version tlsv1.3",
        f"cafile {CA}",
        f"certfile {SERVER}",
        f"keyfile {SERVER}",
        f"crlfile {CRL}",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        f"acl_file {ACL}",
        # Nothing is kept for anybody: every promise is an acknowledgement of the protocol's own.
        "persistence false",
        "set_tcp_nodelay true",
        f"max_inflight_messages {MAX_IN_FLIGHT}",
        f"max_queued_messages {settings.max_queued_messages}",
        f"max_queued_bytes {settings.max_queued_bytes}",
        # message_size_limit would acknowledge what it drops; this ends the session instead.
        f"max_packet_size {MAX_PACKET_BYTES}",
        f"max_connections {settings.max_connections}",
        f"sys_interval {settings.sys_interval_s}",
        # Standard error is not buffered: a line is there when its event is.
        "log_dest stderr",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice", "information")),
        "log_timestamp false",
        "connection_messages true",
    )
    return "\n".join(lines) + "\n"


def access_list(denied: Iterable[str] = ()) -> str:
    """The ACL: the hub, two patterns for all boxes, and the nodes that may do nothing any more."""
    lines = [f"user {HUB}", *(f"topic {right} {topic}" for right, topic in ACL_HUB)]
    for name in sorted(denied):
        lines += [f"user {node_id(name)}", f"topic deny {ROOT}/{name}/#"]
    lines += [f"pattern {right} {topic}" for right, topic in ACL_PATTERNS]
    return "\n".join(lines) + "\n"
