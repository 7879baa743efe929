"""What each kind of record does to this box's sheets: one line an area, collected here."""

from typing import Final

from .journal.book import Meanings

MEANINGS: Final[Meanings] = {}
