"""What each kind of record does to this box's sheets: one line an area, collected here."""

from typing import Final

from .devices import meanings as devices
from .dicom import meanings as dicom
from .journal.book import Meanings

MEANINGS: Final[Meanings] = {
    **devices.MEANINGS,
    **dicom.MEANINGS,
}
