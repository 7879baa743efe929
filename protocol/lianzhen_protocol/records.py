"""What frames carry (docs/protocol.md, 6).

A record is an envelope (id, kind, version, time) around a body. To the stream it is opaque
bytes: the hash chain, the hub's log and the sealed journal never look inside, so a record that
cannot be understood is still never lost. Within a major version fields are only added, and
whoever passes a record on passes its bytes on, so fields that it does not know survive.
"""

from typing import Annotated, Final

import msgspec

from .errors import RecordError
from .identity import RecordId, record_id

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""Since 1970, UTC; what a database's signed 64 bits hold."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """The envelope; ``created_ms`` is the writer's trusted time, UTC."""

    id: bytes
    kind: str
    major: int
    minor: int
    created_ms: Milliseconds
    body: bytes


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What a record says; a msgpack map, and unknown keys are let through."""


class DiagnosticNote(Body, frozen=True):
    """A line that an operator sends through the whole path to see that it works."""

    text: str


class RecordRejected(Body, frozen=True):
    """The hub's answer to a record that it kept but could not apply; shown to the author."""

    record_id: bytes
    code: str
    reason: str


class RecordSeen(Body, frozen=True):
    """A person at the hub opened the record: the last of an item's five states."""

    record_id: bytes
    seen_by: str
    seen_ms: int


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "diagnostic.note": {1: DiagnosticNote},
    "record.rejected": {1: RecordRejected},
    "record.seen": {1: RecordSeen},
}
"""Kind -> major -> body. Two majors stand here while a fleet changes over, never more."""

_MINOR: Final = 0
_encoder = msgspec.msgpack.Encoder()
_records = msgspec.msgpack.Decoder(Record)
_bodies = {
    (kind, major): msgspec.msgpack.Decoder(body)
    for kind, majors in KINDS.items()
    for major, body in majors.items()
}
_names = {body: (kind, major) for kind, majors in KINDS.items() for major, body in majors.items()}


def encode(body: Body, identity: RecordId, created_ms: int) -> bytes:
    """A record's bytes, as they stay from the journal to the hub's log."""
    kind, major = _names[type(body)]
    record = Record(identity, kind, major, _MINOR, created_ms, _encoder.encode(body))
    return _encoder.encode(record)


def decode(wire: bytes) -> Record:
    """The envelope; RecordError if it is none."""
    try:
        record = _records.decode(wire)
        record_id(record.id)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a record: {error}") from error
    return record


def open_body(record: Record) -> Body:
    """What the record says; RecordError (with its code) for what this release cannot read."""
    decoder = _bodies.get((record.kind, record.major))
    if decoder is None:
        majors = KINDS.get(record.kind)
        if majors is None:
            # Cut off: the text goes back to the author in a record, which has a limit.
            raise RecordError(f"unknown kind {record.kind[:40]!r}", code="record-kind-unknown")
        raise RecordError(
            f"{record.kind} {record.major}.{record.minor}: this release reads {sorted(majors)}",
            code="record-version",
        )
    try:
        return decoder.decode(record.body)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{record.kind}: {error}") from error
