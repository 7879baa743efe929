"""Vital signs and a clinic's desk for tests of triage."""

import itertools
from pathlib import Path

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_edge.triage.desk import TriageDesk, asks
from lianzhen_edge.triage.socket import SOCKET
from lianzhen_edge.triage.wiring import RequestDrafts
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.people import Patient
from lianzhen_protocol.triage import Clinician, TriageSuggestion
from lianzhen_protocol.vitals import STREAM, Measurement, Parameter, VitalsReading
from lianzhen_runtime.keys import FileKeys

from .people import NODE, NOW_MS, a_patient

NURSE = Clinician(account="c" * 32, name="王护士")
WELL: dict[str, float | str] = {
    "respiration": 16,
    "spo2": 97,
    "oxygen": 0,
    "systolic": 124,
    "pulse": 72,
    "consciousness": "A",
    "temperature": 36.8,
}
ILL: dict[str, float | str] = {
    "respiration": 26,
    "spo2": 91,
    "oxygen": 3,
    "systolic": 96,
    "pulse": 122,
    "consciousness": "A",
    "temperature": 38.9,
}
"""NEWS2 13, and no sign outside the model's ranges."""


def reading(
    patient_id: str, signs: dict[str, float | str], at_ms: int = NOW_MS, device_id: str = ""
) -> VitalsReading:
    """One set of signs, as a nurse types them in."""
    return VitalsReading(
        patient_id=patient_id,
        device_id=device_id,
        measurements=tuple(
            Measurement(parameter=Parameter(name), code=value)
            if isinstance(value, str)
            else Measurement(parameter=Parameter(name), value=value)
            for name, value in signs.items()
        ),
        device_ms=at_ms,
        sent_ms=at_ms,
        received_ms=at_ms,
        corrected_ms=at_ms,
    )


class Clinic:
    """A real journal with every meaning, a patient, a clock of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = NOW_MS
        self._numbers = itertools.count(1000)

    async def open(self) -> None:
        self.journal = await Journal.open(
            self.folder / "journal.db",
            NodeId(NODE),
            FileKeys(self.folder / "keys"),
            lambda: self.now_ms,
            meanings=MEANINGS,
        )
        self.desk = TriageDesk(
            self.journal, lambda: self.now_ms, asks(self.folder / SOCKET), RequestDrafts()
        )

    async def register(self, patient: Patient | None = None) -> str:
        """A patient of the clinic; 76 years old by default."""
        found = patient or a_patient()
        await self.journal.transact(lambda book: book.put(found))
        return found.id

    async def measure(self, patient_id: str, signs: dict[str, float | str]) -> None:
        """A reading arrives."""
        body = reading(patient_id, signs, self.now_ms)

        def work(book: Book) -> None:
            book.write(STREAM, body)

        await self.journal.transact(work)

    def suggestions(self, patient_id: str) -> list[TriageSuggestion]:
        """All of a patient's, the oldest first."""
        return self.journal.sheets.find(TriageSuggestion, owner=patient_id)
