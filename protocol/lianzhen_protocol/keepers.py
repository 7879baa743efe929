"""Who keeps what is joined to patients: joins know neither images nor vital signs themselves."""

from typing import Final

import msgspec

from .errors import RecordError
from .imaging import Study
from .joins import Keepers, patient_at
from .people import Patient
from .sheets import Sheets
from .vitals import Reading, VitalsReading, keep_reading, put_reading, readings_of_device, rebuild


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
    known = sheets.get(Patient, patient)
    if known is not None and known.node != node:
        raise RecordError("a box reads patients of its own clinic", code="patient-foreign")
    keep_reading(sheets, Reading(id=record_id, node=node, patient_id=patient, body=body))


def look_again(sheets: Sheets, node: str, device: str, from_ms: int, to_ms: int) -> None:
    """Whose each reading of a span is, found anew; the present states of all concerned follow."""
    touched: set[str] = set()
    for reading in readings_of_device(sheets, node, device, from_ms, to_ms):
        owner = patient_at(sheets, node, device, reading.body.corrected_ms)
        moved = msgspec.structs.replace(reading, patient_id=owner)
        if moved != reading:
            touched |= {reading.subject, moved.subject}
            put_reading(sheets, moved)
    for subject in sorted(touched):
        rebuild(sheets, subject)


KEEPERS: Final = Keepers(study=give_study, readings=look_again)
