"""What comes down: applied in the transaction that moves the mark, or kept for a later release.

Pure SQL on the writer's connection. A record is applied at most once, since it and its mark are
one commit; what a restored hub sends again under a new epoch changes nothing a second time.
"""

import sqlite3
from collections.abc import Callable

from lianzhen_protocol import records
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.receiver import Accepted
from lianzhen_protocol.records import RecordRejected, RecordSeen
from lianzhen_runtime.log import Log

_log = Log("lianzhen.inbox")


def take(
    db: sqlite3.Connection,
    epoch: Epoch,
    stream: str,
    accepted: Accepted,
    seal: Callable[[int, bytes], bytes],
    key_epoch: Epoch,
) -> None:
    """Apply each of ``accepted`` and move the mark. ``seal`` seals (seq, record) for keeping."""
    for seq, entry in enumerate(accepted.records, accepted.first):
        try:
            _apply(db, entry)
        except RecordError as error:
            db.execute(
                "INSERT INTO inbox (key_epoch, epoch, stream, seq, sealed, code)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key_epoch, epoch, stream, seq, seal(seq, entry), error.code),
            )
            _log.warning("a record from the hub is kept for a later release", code=error.code)
    db.execute(
        "INSERT INTO down_mark VALUES (?, ?, ?, ?) ON CONFLICT (epoch, stream)"
        " DO UPDATE SET committed = excluded.committed, hash = excluded.hash",
        (epoch, stream, accepted.position.seq, accepted.position.hash),
    )


def _apply(db: sqlite3.Connection, entry: bytes) -> None:
    body = records.open_body(records.decode(entry))
    match body:
        case RecordSeen(record_id=identity, seen_by=person, seen_ms=when):
            db.execute(
                "UPDATE item SET seen_ms = ?, seen_by = ? WHERE id = ? AND seen_ms IS NULL",
                (when, person, identity),
            )
        case RecordRejected(record_id=identity, code=code, reason=reason):
            text = f"{code}: {reason}"
            db.execute("UPDATE item SET rejected = ? WHERE id = ?", (text, identity))
        case _:
            raise RecordError(f"{type(body).__name__} does not come down", code="record-misplaced")
