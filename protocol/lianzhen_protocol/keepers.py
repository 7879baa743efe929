"""Who keeps what is joined to patients: joins know neither images nor vital signs themselves."""

from typing import Final

import msgspec

from .imaging import Study
from .joins import Keepers, patient_at
from .sheets import Sheets
from .vitals import REBUILD_READINGS, Reading, state_of

_SPAN: Final = 100_000
"""More readings than a box hears in the days that a binding may be dated back."""


def give_study(sheets: Sheets, study: str, patient: str) -> None:
    """A study that is here is that patient's now; whoever stores one later asks ``patient_of``."""
    if (found := sheets.get(Study, study)) is not None:
        sheets.put(msgspec.structs.replace(found, patient_id=patient))


def look_again(sheets: Sheets, node: str, device: str, from_ms: int, to_ms: int) -> None:
    """Whose each reading of a span is, found anew; both patients' present states follow."""
    touched: set[str] = set()
    for reading in sheets.find(Reading, since_ms=from_ms, limit=_SPAN):
        at_ms = reading.body.corrected_ms
        if reading.body.device_id != device or at_ms >= to_ms:
            continue
        owner = patient_at(sheets, node, device, at_ms)
        if owner != reading.patient_id:
            touched |= {owner, reading.patient_id}
            sheets.put(msgspec.structs.replace(reading, patient_id=owner))
    for patient in touched - {""}:
        newest = sheets.find(Reading, owner=patient, limit=REBUILD_READINGS, newest=True)
        sheets.put(state_of(patient, newest))


KEEPERS: Final = Keepers(study=give_study, readings=look_again)
