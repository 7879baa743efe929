"""The hash chain over a stream's records (docs/protocol.md, 4).

``h(0)`` names the stream; ``h(n) = SHA-256(h(n-1) | record n)``. The chain runs over records
and not over frames, so frames may be cut anew on every retransmission, and two histories that
differ anywhere differ in every later hash.
"""

import hashlib
from collections.abc import Iterable, Iterator

from .identity import Epoch, NodeId

HASH_BYTES = 32


def genesis(node: NodeId, epoch: Epoch, stream: str) -> bytes:
    """``h(0)`` of a stream: 32 bytes that no other stream begins with."""
    return hashlib.sha256(b"lz/1 chain\0" + epoch + f"{node}/{stream}".encode()).digest()


def extend(before: bytes, record: bytes) -> bytes:
    """``h(n)`` from ``h(n-1)`` and the n-th record's bytes."""
    return hashlib.sha256(before + record).digest()


def walk(before: bytes, records: Iterable[bytes]) -> Iterator[bytes]:
    """``h(n), h(n+1), ...`` after each of ``records``."""
    for record in records:
        before = extend(before, record)
        yield before
