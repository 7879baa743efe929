"""Every kind of record that this release knows, and what turns a body into bytes and back."""

from typing import Final

import msgspec

from . import (
    accounts,
    alarms,
    audit,
    bindings,
    consultation,
    imaging,
    joins,
    key_images,
    opinion,
    orders,
    people,
    records,
    series,
    settlement,
    telemetry,
    triage,
    vitals,
    wearables,
)
from .errors import RecordError
from .identity import RecordId
from .records import Body, Record

KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    **records.KINDS,
    **accounts.KINDS,
    **alarms.KINDS,
    **audit.KINDS,
    **bindings.KINDS,
    **consultation.KINDS,
    **imaging.KINDS,
    **joins.KINDS,
    **key_images.KINDS,
    **opinion.KINDS,
    **orders.KINDS,
    **people.KINDS,
    **series.KINDS,
    **settlement.KINDS,
    **telemetry.KINDS,
    **triage.KINDS,
    **vitals.KINDS,
    **wearables.KINDS,
}
"""Kind -> major -> body. Two majors stand here while a fleet changes over, never more."""

_MINOR: Final = 0
_encoder = msgspec.msgpack.Encoder()
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
