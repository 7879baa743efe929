"""What a box's records of readings, alarms and wearables do at the hub."""

from typing import Final

from lianzhen_hub.page import HubPage, Meanings
from lianzhen_protocol import alarms, keepers, wearables
from lianzhen_protocol.alarms import AlarmAcknowledged, AlarmEnded, AlarmLowered, AlarmRaised
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.records import Body, Record
from lianzhen_protocol.vitals import VitalsReading
from lianzhen_protocol.wearables import WearableAdded, WearableRevoked


def apply(page: HubPage, record: Record, body: Body) -> None:
    """One record of a box."""
    match body:
        case VitalsReading():
            keepers.take_reading(page, record.id.hex(), body, page.node)
        case AlarmRaised():
            alarms.take_raised(page, record.id.hex(), body, page.node)
        case AlarmAcknowledged():
            alarms.take_acknowledged(page, body)
        case AlarmLowered():
            alarms.take_lowered(page, body)
        case AlarmEnded():
            alarms.take_ended(page, body)
        case WearableAdded():
            wearables.take_added(page, body, record.created_ms)
        case WearableRevoked():
            wearables.take_revoked(page, body, record.created_ms)
        case _:
            raise RecordError(f"{record.kind} is none of these", code="record-misplaced")


_BODIES: Final = (
    *(VitalsReading, AlarmRaised, AlarmAcknowledged, AlarmLowered, AlarmEnded),
    *(WearableAdded, WearableRevoked),
)
MEANINGS: Final[Meanings] = dict.fromkeys(_BODIES, apply)
