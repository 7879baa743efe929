"""What each kind of record does to this box's sheets: one line an area, collected here."""

from typing import Final

from . import auditing
from .clinic import meanings as clinic
from .consultations import meanings as consultations
from .devices import meanings as devices
from .dicom import meanings as dicom
from .journal.book import Meanings
from .opinions import meanings as opinions
from .patients import meanings as patients
from .settlement import meanings as settlement
from .triage import meanings as triage

MEANINGS: Final[Meanings] = {
    **auditing.MEANINGS,
    **clinic.MEANINGS,
    **consultations.MEANINGS,
    **devices.MEANINGS,
    **dicom.MEANINGS,
    **opinions.MEANINGS,
    **patients.MEANINGS,
    **settlement.MEANINGS,
    **triage.MEANINGS,
}
