"""The audit log: who did what to whose data, in a hash chain that shows what was done to it; pure.

``h(0)`` names the log; ``h(n) = SHA-256(h(n-1) | row n)``. A row carries 16 random bytes that lie
sealed with it, so its hash, which travels and lies in the clear, says nothing of who or whose. A
chain alone proves only that its rows belong together: whoever may write the file may also cut its
end off, or write a whole new chain. So its *head* (number, hash) is told to others, who keep it:
a box's to the hub, the hub's to its boxes. ``verify`` takes rows and heads, and names the first
row at which they do not agree.
"""

import enum
import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, get_args

import msgspec

from .chain import HASH_BYTES
from .records import Body, Milliseconds

STREAM: Final = "record.audit"
"""Rows and heads of a box go up in it, heads of the hub come down."""

HUB_LOG: Final = "hub"
"""The hub's own log; a box's is named after its node."""

SALT_BYTES: Final = 16
MAX_APART: Final = 64
"""Most rows that a log grows by before its head is told."""

Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
Number = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


Action = Literal[
    "read",  # somebody looked at it
    "create",
    "change",
    "remove",
    "join",  # a study or reading became a patient's
    "sever",  # that was taken back
    "bind",  # a device became a patient's, from now on
    "unbind",
    "admit",  # a device was let in
    "submit",  # a consultation was asked for
    "decide",  # accepted, declined, overridden, acknowledged: a person's decision
    "sign",
    "print",
    "settle",
    "reverse",
    "export",  # it left the system as a file
    "refuse",  # somebody was not let near it
    "signed-in",
    "account-made",
    "account-changed",
    "account-revoked",
    "password-changed",
    "password-reset",
    "recovery-code-used",
    "second-factor-set",
    "certify",  # an expert's key
    "revoke",
]
"""All that is ever logged. A log that says it in free words cannot be searched."""

ACTIONS: Final = frozenset(get_args(Action))


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What a row says. ``subject`` is a sheet as ``kind/key``, ``patient`` whose data that is."""

    at_ms: Milliseconds
    actor: str
    action: str
    subject: str
    patient: str
    salt: bytes


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One row as it was written; ``entry`` is None where the disk no longer gives it."""

    seq: Number
    entry: Entry | None
    hash: Hash


class Head(msgspec.Struct, frozen=True):
    """The end of a log as somebody was told it."""

    seq: int
    hash: Hash
    told_ms: int = 0


class AuditRows(Body, frozen=True):
    """The next rows of a box's log, the last of which is its head."""

    rows: Annotated[tuple[Row, ...], msgspec.Meta(min_length=1, max_length=MAX_APART)]


class AuditHead(Body, frozen=True):
    """How far a log is; whoever is told keeps it."""

    log: str
    seq: Number
    hash: Hash
    told_ms: Milliseconds


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "audit.rows": {1: AuditRows},
    "audit.head": {1: AuditHead},
}


def genesis(log: str) -> bytes:
    """``h(0)`` of a log: 32 bytes that no other chain begins with."""
    return hashlib.sha256(b"lz/1 audit\0" + log.encode()).digest()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def extend(before: bytes, seq: int, entry: Entry) -> bytes:
    """``h(n)`` from ``h(n-1)`` and the n-th row."""
    row = _encoder.encode((seq, entry))
    return hashlib.sha256(b"lz/1 audit row\0" + before + row).digest()


def encode(entry: Entry) -> bytes:
    """An entry as it is sealed."""
    return _encoder.encode(entry)


def decode(plain: bytes) -> Entry:
    """An entry back; ValueError if it is none."""
    return _decoder.decode(plain)


def place(log: str) -> bytes:
    """Additional data of a sealed row. Its number is left out, so that a row out of place opens:
    the chain says where it belongs.
    """
    return f"lz/1 audit\0{log}".encode()


class Fault(enum.StrEnum):
    """What can have been done to a log."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    REWRITTEN = "rewritten"
    TRUNCATED = "truncated"


class Finding(msgspec.Struct, frozen=True):
    """The first row that is not as it was written, and what happened to it, for a person."""

    fault: Fault
    seq: int
    sentence: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a log was found. ``finding`` is None for one that is whole up to every head."""

    log: str
    rows: int
    heads: int
    head: Head
    finding: Finding | None


def verify(log: str, rows: Iterable[Row], heads: Iterable[Head]) -> Verdict:
    """Walk a log in the order of its numbers, against every head of it that anybody kept.

    All rows are held in memory, as a row out of place is looked for in the others.
    """
    known, told = list(rows), sorted(heads, key=lambda head: head.seq)
    end, finding = _walk(log, known, told)
    return Verdict(log=log, rows=len(known), heads=len(told), head=end, finding=finding)


def _walk(log: str, rows: Sequence[Row], told: Sequence[Head]) -> tuple[Head, Finding | None]:
    end, sound = Head(0, genesis(log)), 0
    said: dict[int, set[bytes]] = {}
    for head in told:
        said.setdefault(head.seq, set()).add(head.hash)
    for row in rows:
        if row.seq != end.seq + 1:
            return end, _gap(log, end.seq, row.seq)
        if row.entry is None or extend(end.hash, row.seq, row.entry) != row.hash:
            return end, _broken(log, end.hash, row, rows)
        if said.get(row.seq, {row.hash}) != {row.hash}:
            return end, _rewritten(log, sound, row.seq)
        sound = row.seq if row.seq in said else sound
        end = Head(row.seq, row.hash, row.entry.at_ms)
    last = max(said, default=0)
    return end, _cut(log, end.seq, last) if last > end.seq else None


def _gap(log: str, last: int, found: int) -> Finding:
    gap = f"row {last + 1}" if found == last + 2 else f"rows {last + 1} to {found - 1}"
    where = f"row {last} is followed by" if last else "it begins with"
    return Finding(Fault.MISSING, last + 1, f"{gap} of log {log} missing: {where} row {found}")


def _rewritten(log: str, sound: int, seq: int) -> Finding:
    sentence = (
        f"log {log} rewritten from row {sound + 1} on, at the latest from row {seq}: "
        f"its head at row {seq} was told to be another"
    )
    return Finding(Fault.REWRITTEN, sound + 1, sentence)


def _cut(log: str, last: int, head: int) -> Finding:
    sentence = (
        f"log {log} truncated: row {last + 1} and what followed are missing; "
        f"its head was row {head} when it was last told"
    )
    return Finding(Fault.TRUNCATED, last + 1, sentence)


def _broken(log: str, before: bytes, row: Row, rows: Sequence[Row]) -> Finding:
    """Why a row's hash does not follow: another row in its place, or the row was changed."""
    for other in rows:
        if other.entry is None or other.seq == row.seq:
            continue
        if extend(before, row.seq, other.entry) == other.hash:
            sentence = (
                f"rows of log {log} reordered: what was written as row {row.seq} "
                f"lies at row {other.seq}"
            )
            return Finding(Fault.REORDERED, row.seq, sentence)
    what = "is not what its hash was made of" if row.entry else "does not open"
    sentence = f"row {row.seq} of log {log} changed: its content {what}"
    return Finding(Fault.CHANGED, row.seq, sentence)
