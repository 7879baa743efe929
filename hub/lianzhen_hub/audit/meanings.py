"""What a box tells of its audit log: a copy that the box can no longer change."""

from typing import Final

from lianzhen_hub.page import HubPage, Meanings
from lianzhen_protocol.audit import AuditRows
from lianzhen_protocol.records import Record
from lianzhen_protocol.sheets import means


def rows(page: HubPage, _record: Record, body: AuditRows) -> None:
    """Keep them; what does not follow, or differs from what was told before, is told an admin."""
    wrong = page.audit_take(page.node, body.rows, page.now_ms)
    if wrong is not None:
        detail = f"what the box tells of its audit log differs at row {wrong}: run 'audit verify'"
        page.notice("audit-differs", detail, page.node)


MEANINGS: Final[Meanings] = dict([means(AuditRows, rows)])
