"""What records of readings, alarms and wearables do to the box's sheets."""

from typing import Final

from lianzhen_edge.journal.book import Meanings, Origin, Page
from lianzhen_protocol.common_meanings import BEDSIDE_BODIES, apply_bedside
from lianzhen_protocol.records import Body, Record


def apply(page: Page, record: Record, body: Body) -> None:
    """One record; RecordError for what the hub has no business to say."""
    page.only_from(Origin.HERE, record)
    apply_bedside(page, record, body, alarm_node="")


MEANINGS: Final[Meanings] = dict.fromkeys(BEDSIDE_BODIES, apply)
