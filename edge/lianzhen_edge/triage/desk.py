"""What triage does at the clinic: suggests, and takes down what a named clinician decided.

A suggestion is made where new vitals say something new, or when somebody asks. It is one commit
with its audit row and, for the two most urgent levels, the draft that it proposes.
"""

import importlib.resources
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from lianzhen_edge.journal.book import Book
from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import acuity, news2, triage
from lianzhen_protocol.acuity import Level, Table
from lianzhen_protocol.people import Patient, china_day
from lianzhen_protocol.sheets import Sheets
from lianzhen_protocol.triage import (
    Clinician,
    Forecast,
    Observed,
    SpO2Scale,
    SpO2ScaleSet,
    Subject,
    TriageDecided,
    TriageSuggested,
    TriageSuggestion,
    Verdict,
)
from lianzhen_protocol.vitals import Vitals
from lianzhen_runtime.errors import LianzhenError
from lianzhen_runtime.web.once import Act

from . import bundle, client

PROGRAM: Final = "triage"
"""The actor in audit rows of what triage does by itself."""
ENOUGH_SIGNS: Final = 4
"""Fewer make a suggestion by themselves only if one of them is red."""


class NoSuchPatient(LianzhenError):
    """The box has no patient with this id."""

    code = "patient-unknown"
    http_status = 404


class Drafts(Protocol):
    """The draft of a request: triage proposes one, and never starts anything else."""

    def propose(self, book: Book, patient_id: str, level: Level, suggestion_id: str) -> None:
        """A suggestion asks for I or II: a draft, where the patient has no request."""

    def decided(self, book: Book, patient_id: str, level: Level, suggestion_id: str) -> None:
        """A clinician decided on a level: it is the draft's from now on."""


class Asks(Protocol):
    """How the learned score is asked for; it always answers."""

    async def __call__(self, patient: bundle.Patient) -> Forecast:
        """``client.forecast`` of the triage process."""


def shipped_table() -> Table:
    """The acuity table that this release comes with."""
    file = importlib.resources.files(__package__) / "acuity.toml"
    return acuity.load(tomllib.loads(file.read_text(encoding="utf-8")))


def asks(socket: Path) -> Asks:
    """Ask the process behind ``socket``."""

    async def ask(patient: bundle.Patient) -> Forecast:
        return await client.forecast(socket, patient)

    return ask


def subject_of(sheets: Sheets, patient_id: str, now_ms: int) -> Subject:
    """What of a patient matters here; NoSuchPatient."""
    patient = sheets.get(Patient, patient_id)
    if patient is None:
        raise NoSuchPatient("there is no patient with that id")
    return Subject(
        patient_id=patient_id,
        age_years=patient.age_on(china_day(now_ms)),
        pregnant=patient.pregnant,
        scale=triage.scale_of(sheets, patient_id),
    )


def observed_of(sheets: Sheets, patient_id: str, now_ms: int) -> Observed:
    """The signs of a patient that speak for the present."""
    return triage.observe(sheets.get(Vitals, patient_id), now_ms)


def enough(observed: Observed, scale: news2.Scale) -> bool:
    """Whether these signs deserve a suggestion that nobody asked for."""
    return len(observed.seen) >= ENOUGH_SIGNS or news2.score(observed.vitals, scale).red


class TriageDesk:
    """Keeps nothing of its own: as many as are wanted may work on one journal."""

    def __init__(
        self,
        journal: Journal,
        now_ms: Callable[[], int],
        ask: Asks,
        drafts: Drafts,
        table: Table | None = None,
    ) -> None:
        self._journal = journal
        self._now_ms = now_ms
        self._ask = ask
        self._drafts = drafts
        self.table = table or shipped_table()

    async def look(self, subject_id: str) -> TriageSuggested | None:
        """Suggest, if the vitals of this patient are enough and say something new.

        What would be suggested now, whether it was news or not; None if the vitals are too few.
        """
        sheets, now_ms = self._journal.sheets, self._now_ms()
        if sheets.get(Patient, subject_id) is None:
            return None  # a device that nobody wears by name
        subject = subject_of(sheets, subject_id, now_ms)
        observed = observed_of(sheets, subject_id, now_ms)
        if _exempt(subject) or enough(observed, subject.scale):
            return await self._suggest(subject, observed, None)
        return None

    async def suggest(
        self, patient_id: str, by: Clinician, act: Act | None = None
    ) -> TriageSuggested:
        """A suggestion that somebody asked for; it is always made, once for an ``act``."""
        sheets, now_ms = self._journal.sheets, self._now_ms()
        subject = subject_of(sheets, patient_id, now_ms)
        return await self._suggest(subject, observed_of(sheets, patient_id, now_ms), by, act)

    async def _suggest(
        self, subject: Subject, observed: Observed, by: Clinician | None, act: Act | None = None
    ) -> TriageSuggested:
        forecast = None if _exempt(subject) else await self._ask(_patient(subject, observed))

        def work(book: Book) -> TriageSuggested:
            made = triage.suggest(
                subject,
                observed,
                forecast,
                self.table,
                suggestion_id=book.new_id(),
                at_ms=book.now_ms,
                asked_by=by,
            )
            before = triage.newest(book, subject.patient_id)
            if by is None and before and not triage.says_more(made, before.suggested):
                return made
            book.write(triage.STREAM, made, made.suggestion_id)
            book.audit(by.account if by else PROGRAM, "create", _place(made.suggestion_id))
            if made.level is not None and triage.proposes_draft(made.level):
                self._drafts.propose(book, subject.patient_id, made.level, made.suggestion_id)
            return made

        return await (act or Act()).do(self._journal.transact, work, TriageSuggested)

    async def decide(
        self,
        suggestion_id: str,
        patient_id: str,
        verdict: Verdict,
        level: Level,
        by: Clinician,
        why: str,
        act: Act | None = None,
    ) -> TriageDecided:
        """Take down a decision. RecordError, with its code, for what cannot be decided."""

        def work(book: Book) -> TriageDecided:
            said = TriageDecided(
                suggestion_id=suggestion_id,
                patient_id=patient_id,
                verdict=verdict,
                level=level,
                by=by,
                why=why.strip(),
                at_ms=book.now_ms,
                decision_id=book.new_id(),
            )
            book.write(triage.STREAM, said, said.decision_id)
            book.audit(by.account, "decide", _place(suggestion_id))
            sheet = book.get(TriageSuggestion, suggestion_id)
            proposed = sheet is not None and triage.proposes_draft(sheet.suggested.level)
            if proposed or triage.proposes_draft(level):
                self._drafts.decided(book, patient_id, level, suggestion_id)
            return said

        return await (act or Act()).do(self._journal.transact, work, TriageDecided)

    async def set_scale(
        self,
        patient_id: str,
        scale: news2.Scale,
        by: Clinician,
        why: str,
        act: Act | None = None,
    ) -> SpO2ScaleSet:
        """Take down the SpO2 scale that a clinician chose."""

        def work(book: Book) -> SpO2ScaleSet:
            subject_of(book, patient_id, book.now_ms)
            said = SpO2ScaleSet(
                patient_id=patient_id, scale=scale, by=by, why=why.strip(), at_ms=book.now_ms
            )
            book.write(triage.STREAM, said)
            book.audit(by.account, "change", f"{SpO2Scale.SHEET}/{patient_id}")
            return said

        return await (act or Act()).do(self._journal.transact, work, SpO2ScaleSet)


def _exempt(subject: Subject) -> bool:
    return news2.exempt(subject.age_years, subject.pregnant) is not None


def _patient(subject: Subject, observed: Observed) -> bundle.Patient:
    return bundle.Patient(
        age_years=subject.age_years, pregnant=subject.pregnant, vitals=observed.vitals
    )


def _place(suggestion_id: str) -> str:
    return f"{TriageSuggestion.SHEET}/{suggestion_id}"
