"""What a box tells of its lanes: numbers, in a table of their own, to sort a fleet by."""

from typing import Any, Final

from sqlalchemy import delete

from lianzhen_hub.page import HubPage, Meanings
from lianzhen_hub.store import sql, tables
from lianzhen_protocol.records import Record
from lianzhen_protocol.sheets import means
from lianzhen_protocol.telemetry import LanesReported


def reported(page: HubPage, record: Record, body: LanesReported) -> None:
    """The latest report of a box, in the order of its stream, takes the place of the others."""
    table, db = tables.box_lane, page.connection
    db.execute(delete(table).where(table.c.node == page.node))
    rows: list[dict[str, Any]] = [
        {
            "node": page.node,
            "lane": lane.lane,
            "told_ms": record.created_ms,
            "waiting": lane.waiting,
            "waiting_bytes": lane.waiting_bytes,
            "oldest_ms": lane.oldest_ms,
            "bytes_per_s": lane.bytes_per_s,
            "again": lane.again,
            "rejected": lane.rejected,
        }
        for lane in {lane.lane: lane for lane in body.lanes}.values()
    ]
    sql.upsert(db, table, rows)


MEANINGS: Final[Meanings] = dict([means(LanesReported, reported)])
