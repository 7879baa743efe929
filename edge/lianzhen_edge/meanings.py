"""What each kind of record does to this box's sheets: one line an area, collected here."""

from typing import Final

from .dicom import meanings as dicom
from .journal.book import Meanings

MEANINGS: Final[Meanings] = {
    **dicom.MEANINGS,
}
