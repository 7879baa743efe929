"""The box's own mosquitto for wearables: its configuration, passwords and access list, as text.

A device is a user name and a random password; it may publish its own vitals and read its own
receipts, and nothing else. mosquitto.conf(5), mosquitto_passwd(1), 2.0.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

CERTIFICATE, PASSWORDS, ACL = "server.pem", "passwords", "acl"
CORE: Final = "core"
"""User name of the box itself: no device has it, as theirs are 32 hexadecimal digits."""

VITALS, RECEIPTS = "devices/{}/vitals", "devices/{}/receipts"
_TOPIC: Final = re.compile(r"devices/([0-9a-f]{32})/vitals")
_ADDRESS: Final = re.compile(r"[0-9A-Za-z.:_-]+")
_MAX_PACKET_BYTES: Final = 64 << 10
_ITERATIONS: Final = 1000  # the passwords are 120 random bits: no guess is slowed down enough
SALT_BYTES: Final = 12  # mosquitto 2.0 reads no other length


class Listeners(NamedTuple):
    """Where devices come to; a port of 0 is closed. ``plain`` is without TLS."""

    address: str
    port: int
    plain: int


def configuration(listeners: Listeners) -> str:
    """mosquitto.conf. ValueError for an address that is none."""
    if listeners.address and not _ADDRESS.fullmatch(listeners.address):
        raise ValueError(f"not an address to listen on: {listeners.address!r}")
    lines = ["per_listener_settings false"]
    for port, tls in ((listeners.port, True), (listeners.plain, False)):
        if port:
            lines += [
                f"listener {port} {listeners.address}".rstrip(),
                "protocol mqtt",
                # A device cannot throw another one out by taking its client id.
                "use_username_as_clientid true",
                "max_connections 200",
            ]
            if tls:
                lines += [
                    "tls_version tlsv1.2",
                    f"certfile {CERTIFICATE}",
                    f"keyfile {CERTIFICATE}",
                ]
    lines += [
        "allow_anonymous false",
        f"password_file {PASSWORDS}",
        f"acl_file {ACL}",
        # Nothing is kept for anybody: the promise is the receipt.
        "persistence false",
        "set_tcp_nodelay true",
        "max_queued_messages 1000",
        f"max_packet_size {_MAX_PACKET_BYTES}",
        "log_dest stderr",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice", "information")),
        "log_timestamp false",
        "connection_messages true",
    ]
    return "\n".join(lines) + "\n"


def hashed(password: str, salt: bytes) -> str:
    """A password as the broker's file keeps it: PBKDF2-HMAC-SHA-512; ``salt`` is random."""
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    words = (base64.b64encode(part).decode() for part in (salt, key))
    return f"$7${_ITERATIONS}${'$'.join(words)}"


def password_file(logins: Iterable[tuple[str, str]]) -> str:
    """(user, hash) pairs as the broker reads them."""
    return "".join(f"{user}:{hash_}\n" for user, hash_ in sorted(logins))


def access_list() -> str:
    """The ACL: the box, and one pattern for all devices."""
    return (
        f"user {CORE}\n"
        f"topic read {VITALS.format('+')}\n"
        f"topic write {RECEIPTS.format('+')}\n"
        f"pattern write {VITALS.format('%u')}\n"
        f"pattern read {RECEIPTS.format('%u')}\n"
    )


def device_of(topic: str) -> str | None:
    """Whose vitals these are; None for another topic."""
    found = _TOPIC.fullmatch(topic)
    return found[1] if found else None
