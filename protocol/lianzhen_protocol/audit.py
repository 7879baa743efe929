"""The audit chain: who did what to whose data, each row bound to all before it.

``h(0)`` names the log's holder; ``h(n) = SHA-256(h(n-1) | row n)``. A row that is changed,
removed or moved breaks the chain at its number, and a log that is cut short no longer arrives at
a head that was noted elsewhere.
"""

import hashlib

import msgspec


class AuditRow(msgspec.Struct, frozen=True, array_like=True):
    """One act. ``subject`` is a sheet, as ``kind/key``."""

    seq: int
    at_ms: int
    actor: str
    action: str
    subject: str


_encoder = msgspec.msgpack.Encoder()


def audit_genesis(holder: str) -> bytes:
    """``h(0)`` of a holder's log, 32 bytes."""
    return hashlib.sha256(b"lz/1 audit\0" + holder.encode()).digest()


def audit_bytes(row: AuditRow) -> bytes:
    """A row as it is hashed and, sealed, stored."""
    return _encoder.encode(row)


def audit_extend(before: bytes, row: AuditRow) -> bytes:
    """``h(n)`` from ``h(n-1)`` and the n-th row."""
    return hashlib.sha256(before + audit_bytes(row)).digest()


def audit_place(holder: str, seq: int) -> bytes:
    """Additional data of a sealed row."""
    return f"lz/1 audit\0{holder}|{seq}".encode()
