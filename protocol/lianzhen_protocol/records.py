"""What frames carry (docs/protocol.md, 6).

A record is an envelope (id, kind, version, time) around a body. To the stream it is opaque
bytes: the hash chain, the hub's log and the sealed journal never look inside, so a record that
cannot be understood is still never lost. Within a major version fields are only added, and
whoever passes a record on passes its bytes on, so fields that it does not know survive.
"""

from typing import Annotated, Final

import msgspec

from .errors import RecordError
from .identity import record_id

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


class RecordAccepted(Body, frozen=True):
    """A record that the hub had rejected was applied after all: an admin released it, or a
    later release reads it.
    """

    record_id: bytes


class RecordSeen(Body, frozen=True):
    """A person at the hub opened the record: the last of an item's five states."""

    record_id: bytes
    seen_by: str
    seen_ms: int


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "diagnostic.note": {1: DiagnosticNote},
    "record.rejected": {1: RecordRejected},
    "record.seen": {1: RecordSeen},
    "record.accepted": {1: RecordAccepted},
}
"""The kinds of the transport itself: kind -> major -> body. ``kinds`` has those of all areas."""

_records = msgspec.msgpack.Decoder(Record)


def decode(wire: bytes) -> Record:
    """The envelope; RecordError if it is none."""
    try:
        record = _records.decode(wire)
        record_id(record.id)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a record: {error}") from error
    return record
