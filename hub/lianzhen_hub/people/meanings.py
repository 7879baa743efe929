"""What a box's records of patients, bindings and joins do at the hub."""

from typing import Final

from lianzhen_hub.page import HubPage, Meanings
from lianzhen_protocol import joins, people
from lianzhen_protocol.bindings import DeviceBound, DeviceReleased
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.joins import ItemJoined, ItemUnjoined
from lianzhen_protocol.keepers import KEEPERS
from lianzhen_protocol.people import (
    PatientCorrected,
    PatientLinked,
    PatientRegistered,
    PatientUnlinked,
)
from lianzhen_protocol.records import Body, Record


def apply(page: HubPage, record: Record, body: Body) -> None:
    """One record of a box; what cannot be goes to quarantine, and its author is told."""
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


_BODIES: Final = (
    *(PatientRegistered, PatientCorrected, PatientLinked, PatientUnlinked),
    *(DeviceBound, DeviceReleased, ItemJoined, ItemUnjoined),
)
MEANINGS: Final[Meanings] = dict.fromkeys(_BODIES, apply)
