"""Who keeps what is joined to patients: joins know neither images nor vital signs themselves."""

from collections.abc import Sequence
from typing import Final

import msgspec

from . import joins, series
from .errors import RecordError
from .imaging import Study
from .joins import Keepers, patient_at
from .minutes import Minute, fold_all, minute, minutes_of_device, put_minute, rebuild
from .people import Patient
from .series import VitalsSeries
from .sheets import Sheets
from .vitals import Reading, VitalsReading, keep_reading, put_reading, readings_of_device


def give_study(sheets: Sheets, study: str, patient: str) -> None:
    """A study that is here is that patient's now; whoever stores one later asks ``patient_of``."""
    if (found := sheets.get(Study, study)) is not None:
        sheets.put(msgspec.structs.replace(found, patient_id=patient))


def take_reading(sheets: Sheets, record_id: str, body: VitalsReading, node: str) -> None:
    """The meaning of ``vitals.reading``, on both sides: whose it is is found, and it is kept.

    A device's reading is the wearer's by what is known here now: at the hub a binding may come
    before the reading or after it. RecordError for a patient of another clinic.
    """
    patient = body.patient_id
    if body.device_id:
        patient = patient_at(sheets, node, body.device_id, body.corrected_ms)
    _own_patient(sheets, patient, node)
    keep_reading(sheets, Reading(id=record_id, node=node, patient_id=patient, body=body))


def _own_patient(sheets: Sheets, patient: str, node: str) -> None:
    known = sheets.get(Patient, patient)
    if known is not None and known.node != node:
        raise RecordError("a box reads patients of its own clinic", code="patient-foreign")


def take_series(sheets: Sheets, identity: bytes, body: VitalsSeries, node: str) -> None:
    """The meaning of ``vitals.series``, on both sides: one sheet, or its readings singly where the
    device changed hands within it. ReadingError if it cannot be read.
    """
    found = list(series.readings(identity, body))
    whose = (
        joins.wearers(sheets, node, body.device.hex()) if body.device else lambda _: body.patient_id
    )
    owned = [
        Reading(id=name, node=node, patient_id=whose(each.corrected_ms), body=each)
        for name, each in found
    ]
    for patient in {each.patient_id for each in owned}:
        _own_patient(sheets, patient, node)
    if sheets.get(Minute, identity.hex()) is None:
        _keep_together(sheets, identity.hex(), owned, body)
    for subject in {each.subject for each in owned}:
        fold_all(sheets, subject, (each for each in owned if each.subject == subject))


def _keep_together(
    sheets: Sheets, identity: str, owned: Sequence[Reading], body: VitalsSeries
) -> None:
    """As one sheet, if they are all one subject's."""
    if len({each.patient_id for each in owned}) == 1:
        put_minute(sheets, minute(identity, owned, body))
    else:
        sheets.delete(Minute, identity)
        for each in owned:
            put_reading(sheets, each)


def look_again(sheets: Sheets, node: str, device: str, from_ms: int, to_ms: int) -> None:
    """Whose each reading of a span is, found anew; the present states of all concerned follow."""
    touched: set[str] = set()
    whose = joins.wearers(sheets, node, device)
    for reading in readings_of_device(sheets, node, device, from_ms, to_ms):
        moved = msgspec.structs.replace(reading, patient_id=whose(reading.body.corrected_ms))
        if moved != reading:
            touched |= {reading.subject, moved.subject}
            put_reading(sheets, moved)
    for each in minutes_of_device(sheets, node, device, from_ms, to_ms):
        owned = [
            msgspec.structs.replace(reading, patient_id=whose(reading.body.corrected_ms))
            for reading in each.readings()
        ]
        if any(reading.patient_id != each.patient_id for reading in owned):
            touched |= {each.subject} | {reading.subject for reading in owned}
            _keep_together(sheets, each.id, owned, each.body)
    for subject in sorted(touched):
        rebuild(sheets, subject)


KEEPERS: Final = Keepers(study=give_study, readings=look_again)
