"""What comes down: applied in the transaction that moves the mark, or kept for a later release.

Pure SQL on the writer's connection. A record is applied at most once, since it and its mark are
one commit; what a restored hub sends again under a new epoch changes nothing a second time.
"""

import sqlite3
from collections.abc import Callable

from lianzhen_protocol import kinds, records
from lianzhen_protocol.errors import ProtocolError
from lianzhen_protocol.identity import Epoch
from lianzhen_protocol.receiver import Accepted
from lianzhen_protocol.records import RecordAccepted, RecordRejected, RecordSeen
from lianzhen_runtime.log import Log

from .book import Meanings, Page, apply
from .schema import savepoint

_log = Log("lianzhen.inbox")


def take(
    db: sqlite3.Connection,
    epoch: Epoch,
    stream: str,
    accepted: Accepted,
    seal: Callable[[int, bytes], bytes],
    key_epoch: Epoch,
    page: Page,
    meanings: Meanings,
) -> None:
    """Apply each of ``accepted`` and move the mark. ``seal`` seals (seq, record) for keeping."""
    for seq, entry in enumerate(accepted.records, accepted.first):
        code = _applied(db, entry, page, meanings)
        if code is not None:
            db.execute(
                "INSERT INTO inbox (key_epoch, epoch, stream, seq, sealed, code)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key_epoch, epoch, stream, seq, seal(seq, entry), code),
            )
            _log.warning("a record from the hub is kept for a later release", code=code)
    db.execute(
        "INSERT INTO down_mark VALUES (?, ?, ?, ?) ON CONFLICT (epoch, stream)"
        " DO UPDATE SET committed = excluded.committed, hash = excluded.hash",
        (epoch, stream, accepted.position.seq, accepted.position.hash),
    )


def try_again(
    db: sqlite3.Connection,
    unseal: Callable[[Epoch, Epoch, str, int, bytes], bytes],
    page: Page,
    meanings: Meanings,
) -> None:
    """Apply what an earlier release kept because it could not read it, in its order.

    ``unseal`` opens (key's epoch, epoch, stream, seq, sealed).
    """
    rows = db.execute(
        "SELECT place, key_epoch, epoch, stream, seq, sealed FROM inbox ORDER BY place"
    ).fetchall()
    for place, *where in rows:
        if _applied(db, unseal(*where), page, meanings) is None:
            db.execute("DELETE FROM inbox WHERE place = ?", (place,))


def _applied(db: sqlite3.Connection, entry: bytes, page: Page, meanings: Meanings) -> str | None:
    """Apply one record; the code of why it could not be, and then nothing of it happened."""
    try:
        with savepoint(db):
            _apply(db, entry, page, meanings)
    except sqlite3.Error:
        raise
    except ProtocolError as error:
        return error.code
    except Exception:  # noqa: BLE001 - one record's surprise must not stop its stream
        _log.error("a record from the hub surprised us", exc_info=True)
        return "unexpected"
    return None


def _apply(db: sqlite3.Connection, entry: bytes, page: Page, meanings: Meanings) -> None:
    record = records.decode(entry)
    body = kinds.open_body(record)
    match body:
        case RecordSeen(record_id=identity, seen_by=person, seen_ms=when):
            db.execute(
                "UPDATE item SET seen_ms = ?, seen_by = ? WHERE id = ? AND seen_ms IS NULL",
                (when, person, identity),
            )
        case RecordRejected(record_id=identity, code=code, reason=reason):
            text = f"{code}: {reason}"
            db.execute("UPDATE item SET rejected = ? WHERE id = ?", (text, identity))
        case RecordAccepted(record_id=identity):
            db.execute("UPDATE item SET rejected = NULL WHERE id = ?", (identity,))
        case _:
            apply(page, meanings, record, body)
