"""What each kind of record from a box does at the hub: one line an area, collected here."""

from typing import Final

from .audit import meanings as audit
from .consoles import meanings as consoles
from .consultations import meanings as consultations
from .fleet import meanings as fleet
from .imaging import meanings as imaging
from .page import Meanings
from .people import meanings as people
from .settlement import meanings as settlement
from .triage import meanings as triage
from .vitals import meanings as vitals

MEANINGS: Final[Meanings] = {
    **audit.MEANINGS,
    **consoles.MEANINGS,
    **consultations.MEANINGS,
    **fleet.MEANINGS,
    **imaging.MEANINGS,
    **people.MEANINGS,
    **settlement.MEANINGS,
    **triage.MEANINGS,
    **vitals.MEANINGS,
}
