"""What a box's records of readings, alarms and wearables do at the hub."""

from typing import Final

from lianzhen_hub.page import HubPage, Meanings
from lianzhen_protocol.common_meanings import BEDSIDE_BODIES, apply_bedside
from lianzhen_protocol.records import Body, Record


def apply(page: HubPage, record: Record, body: Body) -> None:
    """One record of a box."""
    apply_bedside(page, record, body, alarm_node=page.node)


MEANINGS: Final[Meanings] = dict.fromkeys(BEDSIDE_BODIES, apply)
