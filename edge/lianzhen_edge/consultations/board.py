"""Consultations as the clinic's pages show them: state, what waits for the hub, what came back."""

from collections.abc import Callable

import msgspec

from lianzhen_edge.journal.states import Item
from lianzhen_protocol.consultation import Consultation, Event, Person, State, Who
from lianzhen_protocol.consultation_table import CLINIC_OFFICES
from lianzhen_protocol.identity import RecordId
from lianzhen_protocol.matching import inbox_order, urgent
from lianzhen_protocol.people import Patient
from lianzhen_protocol.sheets import Sheets

from .desk import ENDED, record_of

Items = Callable[[RecordId], Item | None]
MOST = 500


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a list. ``item``: what became of the clinic's last event of it."""

    id: str
    patient_id: str
    patient: str
    department: str
    complaint: str
    acuity: int | None
    urgent: bool
    state: State
    waiting: int
    """Own events that the hub has not answered."""
    refused: int
    waits: str
    """Why nobody is asked, as the hub said."""
    doctor: str
    expert: str
    at_ms: int
    item: Item | None


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """An event of this clinic and how far it has come."""

    event: Event
    item: Item | None
    waiting: bool


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """Every consultation of the clinic, the most urgent first; those that ended at the end."""

    open: list[Row]
    ended: list[Row]


def board(sheets: Sheets, items: Items, patient_id: str | None = None) -> Board:
    """All of them, or those of one patient."""
    found = sheets.find(Consultation, owner=patient_id, limit=MOST, newest=True)
    rows = [_row(sheets, each, items) for each in found]
    running = [row for row in rows if row.state not in ENDED]
    running.sort(key=lambda row: inbox_order(row.acuity, row.at_ms, row.id))
    return Board(open=running, ended=[row for row in rows if row.state in ENDED])


def own_events(shown: Consultation, items: Items) -> list[Own]:
    """What this clinic did, what stands and what waits, in order."""
    waiting = {event.id for event in shown.waiting}
    return [
        Own(event=event, item=items(record_of(event)), waiting=event.id in waiting)
        for event in (*shown.events, *shown.waiting)
        if event.by.who in CLINIC_OFFICES
    ]


def _row(sheets: Sheets, shown: Consultation, items: Items) -> Row:
    patient = sheets.get(Patient, shown.patient_id)
    own = [each for each in (*shown.events, *shown.waiting) if each.by.who in CLINIC_OFFICES]
    return Row(
        id=shown.id,
        patient_id=shown.patient_id,
        patient=patient.name if patient else "",
        department=shown.department,
        complaint=shown.complaint,
        acuity=shown.acuity,
        urgent=urgent(shown.acuity),
        state=shown.state,
        waiting=len(shown.waiting),
        refused=len(shown.refused),
        waits=shown.waits,
        doctor=_name(shown.doctor),
        expert=_name(shown.expert),
        at_ms=shown.pending_ms or shown.drafted_ms,
        item=items(record_of(own[-1])) if own else None,
    )


def _name(person: Person | None) -> str:
    return person.name if person and person.who is not Who.HUB else ""
