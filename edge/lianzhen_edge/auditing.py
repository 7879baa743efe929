"""The box's audit log goes up: the hub has a copy, and would notice another one.

Whoever holds the box may write its file, and so its log; what was told to the hub is out of reach.
"""

import asyncio
import sqlite3
from pathlib import Path
from typing import Final

from lianzhen_protocol.audit import MAX_APART, STREAM, AuditHead, AuditRows, Verdict
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.records import Record
from lianzhen_protocol.sheets import means
from lianzhen_runtime.errors import Unavailable
from lianzhen_runtime.keys import FileKeys

from .journal import schema
from .journal.book import Book, Meanings, Origin, Page
from .journal.journal import Journal
from .journal.seals import Seals
from .journal.sheets import JournalSheets

INTERVAL_S: Final = 5.0
"""Longest that a row is only here, while the box runs and can write."""


async def run(journal: Journal) -> None:
    """Tell what is new, for as long as the box runs."""
    while True:
        if _untold(journal):
            await journal.transact(tell)
        await asyncio.sleep(INTERVAL_S)


def tell(book: Book) -> int:
    """Write all rows that were not told yet; in how many records."""
    last, count = book.audit_told(book.node), 0
    while rows := book.audit_trail(book.node, after=last, limit=MAX_APART):
        book.write(STREAM, AuditRows(rows=tuple(rows)))
        last, count = rows[-1].seq, count + 1
    return count


def verify(folder: Path) -> Verdict:
    """Walk the log in a box's state folder, which need not be running. Unavailable without one."""
    path, keys = folder / "journal.db", folder / "keys"
    if not path.exists() or not keys.exists():
        raise Unavailable(f"there is no journal in {folder}: name its folder with --state")
    db = schema.connect(path, reader=True)
    try:
        if (row := db.execute("SELECT node FROM about").fetchone()) is None:
            raise Unavailable("the journal is empty; start the box once")
        node = NodeId(row[0])
        seals = Seals(node, FileKeys(keys))
        seals.load(db)
        return JournalSheets(db, node, seals).audit_verify(node)
    except sqlite3.Error as error:
        raise Unavailable(f"the journal {path} cannot be read: {error}") from error
    finally:
        db.close()


def _untold(journal: Journal) -> bool:
    log = journal.sheets
    return log.audit_end(journal.node).seq > log.audit_told(journal.node)


def own_told(page: Page, record: Record, body: AuditRows) -> None:
    """Our own rows, in a record: their head is remembered as told."""
    page.only_from(Origin.HERE, record)
    last = body.rows[-1]
    page.audit_keep_head(AuditHead(page.node, last.seq, last.hash, page.now_ms))


def hub_told(page: Page, _record: Record | None, body: AuditHead) -> None:
    """The hub's head: kept for whoever checks the hub's log one day."""
    page.audit_keep_head(body)


MEANINGS: Final[Meanings] = dict([means(AuditRows, own_told), means(AuditHead, hub_told)])
