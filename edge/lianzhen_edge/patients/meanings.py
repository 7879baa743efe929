"""What records of patients, bindings and joins do to the box's sheets."""

from typing import Final

from lianzhen_edge.journal.book import Meanings, Origin, Page
from lianzhen_protocol.common_meanings import DESK_BODIES, apply_desk
from lianzhen_protocol.records import Body, Record


def apply(page: Page, record: Record, body: Body) -> None:
    """One record; RecordError for what the hub has no business to say."""
    page.only_from(Origin.HERE, record)
    apply_desk(page, record, body)


MEANINGS: Final[Meanings] = dict.fromkeys(DESK_BODIES, apply)
