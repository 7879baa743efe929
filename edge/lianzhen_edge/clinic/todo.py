"""What waits for somebody at the clinic; the first page says it, so that nobody has to search."""

from typing import Final

import msgspec

from lianzhen_edge.printing.jobs import JobStage, PrintJob
from lianzhen_protocol import bedside, joins
from lianzhen_protocol.accounts import CLINICAL, Actor
from lianzhen_protocol.alarms import AlarmState
from lianzhen_protocol.consultation import Consultation, State
from lianzhen_protocol.sheets import Sheets

_MOST: Final = 100


class Task(msgspec.Struct, frozen=True):
    """A line: ``status.todo_<word>`` says what, ``path`` is where it is done."""

    word: str
    count: int
    path: str
    tone: str


def todo(sheets: Sheets, actor: Actor) -> list[Task]:
    """The most urgent first; nothing for whoever treats nobody."""
    if not actor.may(*CLINICAL):
        return []
    ringing = sum(each.state is AlarmState.RINGING for each in bedside.standing(sheets))
    signed = _cases(sheets, State.SIGNED) + _cases(sheets, State.AMENDED)
    failed = len(sheets.find(PrintJob, state=JobStage.FAILED, limit=_MOST))
    found = (
        Task("alarms", ringing, "/alarms", "alarm"),
        Task("signed", signed, "/consultations", "info"),
        Task("drafts", _cases(sheets, State.DRAFT), "/consultations", "warn"),
        Task("tray", len(joins.tray(sheets)), "/tray", "warn"),
        Task("printing", failed, "/printing", "warn"),
    )
    return [task for task in found if task.count]


def _cases(sheets: Sheets, state: State) -> int:
    return len(sheets.find(Consultation, state=state, limit=_MOST))
