"""Finding patients by what a person at the desk knows: part of a name, last digits.

Sheets lie sealed and are found by whole words only, so the directory of this clinic is kept in
memory: read once, then kept up with every commit.
"""

from typing import Final

from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import people
from lianzhen_protocol.people import Patient

_ALL: Final = 1_000_000
_DIGITS: Final = 3
"""So many last digits at least; fewer would find everybody."""


class Directory:
    """The patients of one clinic. Use it on the event loop's thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._patients: dict[str, Patient] | None = None
        journal.on_change(self._changed)

    def search(self, text: str, limit: int = 50) -> list[Patient]:
        """Those whom ``text`` may mean, the newest first; all with an empty text."""
        found = [patient for patient in self._all().values() if _means(text, patient)]
        found.sort(key=lambda patient: (patient.registered_ms, patient.id), reverse=True)
        return found[:limit]

    def _all(self) -> dict[str, Patient]:
        if self._patients is None:
            found = self._journal.sheets.find(Patient, limit=_ALL)
            self._patients = {patient.id: patient for patient in found}
        return self._patients

    def _changed(self, touched: set[tuple[str, str]]) -> None:
        if self._patients is None:
            return
        for kind, key in touched:
            if kind == Patient.SHEET and (found := self._journal.sheets.get(Patient, key)):
                self._patients[key] = found


def _means(text: str, patient: Patient) -> bool:
    wanted = people.folded_name(text)
    if not wanted:
        return True
    if wanted[:-1].isdecimal() and len(wanted) >= _DIGITS:
        numbers = (patient.number, (patient.id_number or "").casefold(), patient.phone)
        if any(number.endswith(wanted) for number in numbers if number):
            return True
    return wanted in people.folded_name(patient.name)
