"""Who is who: nodes, epochs, records (docs/protocol.md, 1).

A node id is chosen by the hub and is the CN of the box's certificate. An epoch is 16 random
bytes made with each new journal or fork. A record id is a UUIDv7 (RFC 9562, 5.7) made by
whoever first wrote the record down, so that a retry carries the same id.
"""

import re
from typing import NewType

from .errors import IdentityError

NodeId = NewType("NodeId", str)
Epoch = NewType("Epoch", bytes)
RecordId = NewType("RecordId", bytes)

HUB = "hub"
"""CN of the hub's own broker session."""

HUB_SIGNING = "hub-signing"
"""CN of the certificate whose key signs welcomes, acknowledgements and the time."""

HUB_NAME = "hub.lianzhen.internal"
"""DNS name in the hub's server certificate: what a box checks, whatever address it dialled."""

# Crockford's base 32: no i, l, o, u, so that an id read over the telephone survives.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_NODE = re.compile(r"n[0-9a-hjkmnp-tv-z]{12}")
_EPOCH_BYTES = 16
_RECORD_BYTES = 16


def base32(raw: bytes, length: int) -> str:
    """The last ``length`` Crockford base-32 digits of ``raw`` read as one big-endian number."""
    number = int.from_bytes(raw)
    return "".join(ALPHABET[(number >> 5 * place) & 31] for place in reversed(range(length)))


def new_node_id(random: bytes) -> NodeId:
    """A node id from at least 8 random bytes (60 bits are used)."""
    if len(random) < 8:
        raise IdentityError("a node id needs 8 random bytes")
    return NodeId("n" + base32(random, 12))


def node_id(text: str) -> NodeId:
    """``text`` as a node id, or IdentityError."""
    if not _NODE.fullmatch(text):
        raise IdentityError(f"not a node id: {text[:40]!r}")
    return NodeId(text)


def epoch(raw: bytes) -> Epoch:
    """``raw`` as an epoch (16 bytes), or IdentityError."""
    if len(raw) != _EPOCH_BYTES:
        raise IdentityError(f"an epoch is {_EPOCH_BYTES} bytes, not {len(raw)}")
    return Epoch(raw)


def record_id(raw: bytes) -> RecordId:
    """``raw`` as a record id (16 bytes), or IdentityError."""
    if len(raw) != _RECORD_BYTES:
        raise IdentityError(f"a record id is {_RECORD_BYTES} bytes, not {len(raw)}")
    return RecordId(raw)


def uuid7(unix_ms: int, random: bytes) -> RecordId:
    """UUIDv7 (RFC 9562, 5.7) from a time in ms and 10 random bytes: sorts by creation time."""
    if len(random) < 10:
        raise IdentityError("a UUIDv7 needs 10 random bytes")
    value = (unix_ms & ((1 << 48) - 1)) << 80 | int.from_bytes(random[:10])
    value &= ~(0xF << 76) & ~(0x3 << 62)
    return RecordId((value | 0x7 << 76 | 0x2 << 62).to_bytes(16))
