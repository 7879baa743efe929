"""Records of a clinic's desk and bedside that come to the same on the box and at the hub.

Each side says for itself who may write them; what they do is said here, once.
"""

from typing import Final, Protocol

from . import alarms, joins, keepers, people, wearables
from .alarms import AlarmAcknowledged, AlarmEnded, AlarmLowered, AlarmRaised
from .bindings import DeviceBound, DeviceReleased
from .errors import RecordError
from .joins import ItemJoined, ItemUnjoined
from .keepers import KEEPERS
from .people import PatientCorrected, PatientLinked, PatientRegistered, PatientUnlinked
from .records import Body, Record
from .series import VitalsSeries
from .sheets import Sheets
from .vitals import VitalsReading
from .wearables import WearableAdded, WearableRevoked


class AuthorsSheets(Sheets, Protocol):
    """Sheets as of a record's commit; ``node`` is the box that wrote the record."""

    @property
    def node(self) -> str:
        """Its id."""


DESK_BODIES: Final = (
    *(PatientRegistered, PatientCorrected, PatientLinked, PatientUnlinked),
    *(DeviceBound, DeviceReleased, ItemJoined, ItemUnjoined),
)
BEDSIDE_BODIES: Final = (
    *(VitalsReading, VitalsSeries, AlarmRaised, AlarmAcknowledged, AlarmLowered, AlarmEnded),
    *(WearableAdded, WearableRevoked),
)


def apply_desk(page: AuthorsSheets, record: Record, body: Body) -> None:
    """Patients, bindings and joins; RecordError for what cannot be."""
    match body:
        case PatientRegistered():
            people.register(page, body, record.created_ms, page.node)
        case PatientCorrected():
            people.correct(page, body, record.created_ms, page.node)
        case PatientLinked():
            people.link(page, body, page.node)
        case PatientUnlinked():
            people.unlink(page, body, page.node)
        case DeviceBound():
            joins.bound(page, body, KEEPERS, page.node)
        case DeviceReleased():
            joins.released(page, body, KEEPERS, page.node)
        case ItemJoined():
            joins.join(page, body, KEEPERS, page.node)
        case ItemUnjoined():
            joins.unjoin(page, body, KEEPERS, page.node)
        case _:
            raise RecordError(f"{record.kind} is none of these", code="record-misplaced")


def apply_bedside(page: AuthorsSheets, record: Record, body: Body, alarm_node: str) -> None:
    """Readings, alarms and wearables. ``alarm_node``: whose alarms are, "" on the box itself."""
    match body:
        case VitalsReading():
            keepers.take_reading(page, record.id.hex(), body, page.node)
        case VitalsSeries():
            keepers.take_series(page, record.id, body, page.node)
        case AlarmRaised():
            alarms.take_raised(page, record.id.hex(), body, alarm_node)
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
