"""What people and triage at the clinic do with consultations; each runs in a transaction's book."""

from collections.abc import Callable, Sequence

from lianzhen_edge.journal.book import Book
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.consultation import (
    STREAM,
    Completed,
    Consultation,
    ConsultationEvent,
    Drafted,
    Edited,
    Event,
    Happened,
    Person,
    Refusal,
    State,
    Who,
)
from lianzhen_protocol.consultation_order import propose
from lianzhen_protocol.consultation_table import action_of
from lianzhen_protocol.identity import RecordId
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.errors import LianzhenError

from .completion import AFTER_COMPLETION, BEFORE_COMPLETION

TRIAGE = Person(id="triage", name="triage", who=Who.TRIAGE)
ENDED = frozenset({State.COMPLETED, State.CANCELLED})


class NotPossible(LianzhenError):
    """The consultation, as it is shown here, does not allow this; ``code`` says why."""

    code = "consultation-not-possible"
    http_status = 409


class NoSuchConsultation(LianzhenError):
    """This clinic has no consultation with that id."""

    code = "consultation-unknown"
    http_status = 404


def person_of(actor: Actor) -> Person:
    """A clinician as a history names them; a doctor who is also a nurse acts as a doctor."""
    who = Who.DOCTOR if Role.DOCTOR in actor.roles else Who.NURSE
    return Person(id=actor.id, name=actor.name, who=who)


def record_of(event: Event) -> RecordId:
    """The record that carried an event of this clinic: its item's state is the event's."""
    return RecordId(bytes.fromhex(event.id))


def known(sheets: Sheets, consultation: str) -> Consultation:
    """One consultation of this clinic, or NoSuchConsultation."""
    found = sheets.get(Consultation, consultation)
    if found is None:
        raise NoSuchConsultation("this clinic has no consultation with that id")
    return found


def do(book: Book, consultation: str, by: Person, what: Happened) -> Consultation:
    """Write an event: it is shown at once and waits for the hub. NotPossible if it cannot be."""
    event = Event(id=book.new_id(), consultation=consultation, by=by, at_ms=book.now_ms, what=what)
    found = propose(book.get(Consultation, consultation), event)
    if isinstance(found, Refusal):
        raise NotPossible(found.reason, code=found.code)
    book.write(STREAM, ConsultationEvent(event=event), event.id)
    book.audit(by.id, action_of(what), f"patient/{found.patient_id}")
    return known(book, consultation)


def draft(book: Book, by: Person, begin: Drafted, identity: str = "") -> Consultation:
    """A new consultation; nobody outside this clinic is asked yet."""
    return do(book, identity or book.new_id(), by, begin)


def open_draft(sheets: Sheets, patient_id: str) -> Consultation | None:
    """What a new request of this patient goes on with: one that is not asked yet, as a rule
    triage's. Two drafts of one patient would be two requests in the end.
    """
    found = sheets.find(Consultation, owner=patient_id, state=State.DRAFT, newest=True, limit=1)
    return found[0] if found else None


def draft_by_triage(book: Book, node: str, patient_id: str, acuity: int, triage: str) -> str:
    """Triage proposes: a draft with the accepted level, or the level of the draft there is.

    The id of the draft; "" where the patient has a request that is not ended, as nothing is
    proposed beside it.
    """
    open_ones = [e for e in book.find(Consultation, owner=patient_id) if e.state not in ENDED]
    if not open_ones:
        begin = Drafted(node=node, patient_id=patient_id, acuity=acuity, triage=triage)
        return draft(book, TRIAGE, begin).id
    for each in open_ones:
        if each.state is State.DRAFT:
            if each.acuity != acuity:
                do(book, each.id, TRIAGE, Edited(acuity=acuity))
            return each.id
    return ""


def complete(
    book: Book,
    consultation: str,
    by: Person,
    opinion: str,
    before: Sequence[Callable[[Book, Consultation, str], None]] = BEFORE_COMPLETION,
    after: Sequence[Callable[[Book, Consultation], None]] = AFTER_COMPLETION,
) -> Consultation:
    """The doctor has read the opinion; what follows happens in this commit, the first time."""
    shown = known(book, consultation)
    for check in before:
        check(book, shown, opinion)
    found = do(book, consultation, by, Completed(opinion=opinion))
    if shown.completed_ms is None:
        for follow in after:
            follow(book, found)
    return found
