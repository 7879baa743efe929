"""What each kind of record from a box does at the hub: one line an area, collected here."""

from typing import Final

from .page import Meanings

MEANINGS: Final[Meanings] = {}
