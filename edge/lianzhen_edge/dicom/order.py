"""Whose images go first: the worst case's, as triage has it."""

import time
from collections.abc import Callable
from typing import Final

from lianzhen_edge.journal.journal import Journal
from lianzhen_protocol import triage
from lianzhen_protocol.acuity import Level
from lianzhen_protocol.imaging import STORED, Instance, Study, images_of
from lianzhen_protocol.sheets import Sheets

from .shelf import NEW, READY, Shelf

_NEWEST: Final = 50
"""Studies that are looked at."""
_FRESH_SECONDS: Final = 1.0
_ABOUT: Final = frozenset({Study.SHEET, Instance.SHEET, Shelf.SHEET, triage.TriageSuggestion.SHEET})


def level_of(sheets: Sheets, patient_id: str) -> Level:
    """The last decided level of a patient, else the suggested one; nobody known can wait."""
    newest = triage.newest(sheets, patient_id) if patient_id else None
    if newest is None:
        return Level.NON_URGENT
    decided = newest.decided.level if newest.decided else newest.suggested.level
    return decided or Level.NON_URGENT


class Order:
    """Which images have precedence. On the loop."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._sheets, self._clock = journal.sheets, clock
        self._first: list[str] = []
        self._stale_at = clock()
        self._stale = True
        journal.on_change(self._changed)

    def _changed(self, sheets: set[tuple[str, str]]) -> None:
        if any(kind in _ABOUT for kind, _ in sheets):
            self._stale = True

    def first(self) -> list[str]:
        """Keys of images with work to do, whose patients are of level I or II and of whose study
        the hub has not all: the worst case first, of a study as it is read."""
        now = self._clock()
        if self._stale and now >= self._stale_at:
            self._first, self._stale, self._stale_at = self._look(), False, now + _FRESH_SECONDS
        return self._first

    def _look(self) -> list[str]:
        sheets = self._sheets
        studies = [
            (level_of(sheets, study.patient_id), study.first_ms, study.id)
            for study in sheets.find(Study, limit=_NEWEST, newest=True)
            if study.received < study.stored
        ]
        urgent = sorted(each for each in studies if each[0] <= Level.URGENT)
        images = (image for *_, study in urgent for image in images_of(sheets, study))
        return [image.id for image in images if self._has_work(image)]

    def _has_work(self, image: Instance) -> bool:
        """Whether its original never went, or its preview is to be made or sent."""
        shelf = self._sheets.get(Shelf, image.id)
        return image.state == STORED or (shelf is not None and shelf.preview in (NEW, READY))
