"""What a piece of work on the box writes in: records, what they mean, and who did it, at once.

Runs on the writer's thread inside its transaction; ``Journal.transact`` opens one. A record that
is written here is applied here, so that what the clinic sees and what the hub will be told are
one commit.
"""

import contextlib
import enum
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from lianzhen_protocol import kinds
from lianzhen_protocol.audit import Action
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.frame import MAX_RECORD_BYTES
from lianzhen_protocol.identity import NodeId, RecordId
from lianzhen_protocol.lanes import Lane, lane_of
from lianzhen_protocol.records import Body, Record, decode
from lianzhen_protocol.sheets import Sheet
from lianzhen_protocol.topics import stream_name
from lianzhen_runtime.ids import new_id

from .errors import JournalFull, RecordTooLarge
from .seals import Seals
from .sheets import JournalSheets


class Origin(enum.StrEnum):
    """Who wrote a record."""

    HERE = "here"
    HUB = "hub"


class Page(JournalSheets):
    """What a record's meaning writes on: sheets, as of the record's own commit."""

    def __init__(
        self, db: sqlite3.Connection, node: NodeId, seals: Seals, now_ms: int, origin: Origin
    ) -> None:
        super().__init__(db, node, seals)
        self.node = node
        self.now_ms = now_ms
        self.origin = origin

    def audit(self, actor: str, action: Action, subject: str) -> None:
        """Note who did what to whose data; ``subject`` is a sheet as ``kind/key``, or a patient."""
        self.audit_row(self.node, self.now_ms, actor, action, subject)

    def is_counted(self, name: str) -> bool:
        """Whether a tally was ever begun."""
        row = self._db.execute("SELECT 1 FROM tally WHERE name = ?", (name,)).fetchone()
        return row is not None

    def count(self, name: str, count: int, size: int) -> None:
        """Add to a tally what only this disk holds, or take off what the hub has now."""
        moved = self.now_ms if count < 0 else None
        self._db.execute(
            "INSERT INTO tally VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
            " count = count + excluded.count, bytes = bytes + excluded.bytes,"
            " moved_ms = coalesce(excluded.moved_ms, moved_ms)",
            (name, count, size, moved),
        )

    def only_from(self, origin: Origin, record: Record) -> None:
        """RecordError for a record that the other side has no business to say."""
        if self.origin is not origin:
            way = "goes up, never down" if origin is Origin.HERE else "goes down, never up"
            raise RecordError(f"{record.kind} {way}", code="record-misplaced")


Meaning = Callable[[Page, Record, Body], None]
"""What a record does to the sheets. RecordError, with its code, for what cannot be applied."""

Meanings = Mapping[type[Body], Meaning]
_Append = Callable[[str, Lane, list[tuple[bytes, bytes]]], bool]


RESERVED_SHEETS: Final = frozenset({"web-session", "web-once", "vitals"})
"""New ones may use the reserve: whoever hears a full disk's alarm has to sign in first, and what
rings is judged by a patient's present state, of which each has one.
"""


class Book(Page):
    """A page that records can be written on.

    On a ``full`` disk it takes what the reserve is for: audit rows, alarms, changes of sheets that
    are there, deletes. Whatever else is written raises that JournalFull.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        node: NodeId,
        seals: Seals,
        now_ms: int,
        append: _Append,
        meanings: Meanings,
        full: JournalFull | None = None,
    ) -> None:
        super().__init__(db, node, seals, now_ms, Origin.HERE)
        self._append = append
        self._meanings = meanings
        self._full = full

    def new_id(self) -> str:
        """A fresh UUIDv7, 32 hexadecimal digits."""
        return new_id(self.now_ms).hex()

    def write(self, stream: str, body: Body, identity: str | None = None) -> str:
        """Append a record to ``stream`` and apply it; its id.

        With an ``identity`` that the journal knows nothing happens: a retry is one record.
        """
        raw, lane = RecordId(bytes.fromhex(identity or self.new_id())), lane_of(stream)
        entry = kinds.encode(body, raw, self.now_ms)
        if len(entry) > MAX_RECORD_BYTES:
            raise RecordTooLarge(f"a record of {len(entry)} bytes; {MAX_RECORD_BYTES} at most")
        if lane is not Lane.ALARM and self._full is not None:
            raise self._full
        with self._reserve():
            if self._append(stream_name(stream), lane, [(raw, entry)]):
                apply(self, self._meanings, decode(entry), body)
        return raw.hex()

    def put(self, sheet: Sheet) -> None:
        """Insert or replace."""
        kind = type(sheet)
        if (
            self._full is not None
            and kind.SHEET not in RESERVED_SHEETS
            and self._fetch(kind.SHEET, sheet.index().key) is None
        ):
            raise self._full
        super().put(sheet)

    @contextlib.contextmanager
    def _reserve(self) -> Iterator[None]:
        """What a record means may use the reserve, where the record itself may."""
        full, self._full = self._full, None
        try:
            yield
        finally:
            self._full = full


def apply(page: Page, meanings: Meanings, record: Record, body: Body) -> None:
    """Let a record mean what it means; RecordError where nothing is known of it."""
    meaning = meanings.get(type(body))
    if meaning is None:
        raise RecordError(f"{record.kind} has no place on a box", code="record-misplaced")
    meaning(page, record, body)
