"""A consultation: what may happen to it, in which state, by whom (docs/consultations.md).

Event-sourced, and the same code on both sides. Here are the words: states, offices, events, the
sheet that they come to, and the records that carry them. ``consultation_table`` says which event
may follow which, ``consultation_order`` what box and hub do with each other's events.
"""

import enum
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

import msgspec

from .matching import Match
from .records import Body, Milliseconds
from .sheets import Index, Sheet

STREAM: Final = "consultation.events"
"""The one stream of all consultations of a node, up and down alike, so that their order holds."""

Id = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""A UUIDv7 in hexadecimal digits."""
Word = Annotated[str, msgspec.Meta(max_length=128)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""SHA-256 in hexadecimal digits."""


class State(enum.StrEnum):
    """Where a consultation stands."""

    DRAFT = "draft"
    """Triage or a nurse wrote it down; no doctor has asked yet."""
    PENDING = "pending"
    """A named doctor asks, with consent: it is in the open inbox."""
    ASSIGNED = "assigned"
    """One expert is asked and has until the deadline."""
    ACCEPTED = "accepted"
    IN_PROGRESS = "in-progress"
    OPINION = "opinion"
    """An opinion is written and not yet signed."""
    SIGNED = "signed"
    COMPLETED = "completed"
    """The doctor has read the signed opinion; settlement follows."""
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    AMENDED = "amended"
    """A later signed opinion stands beside the first one."""


class Who(enum.StrEnum):
    """In what office somebody acts."""

    TRIAGE = "triage"
    """A program: it may draft and do nothing else."""
    NURSE = "nurse"
    DOCTOR = "doctor"
    EXPERT = "expert"
    HUB = "hub"
    """The hub's own clockwork: assignment and deadlines."""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Who did it. ``id`` is an account's; "hub" and "triage" for programs."""

    id: Word
    name: Word
    who: Who


HUB: Final = Person(id="hub", name="hub", who=Who.HUB)


class ConsentForm(enum.StrEnum):
    """How the patient, or who speaks for the patient, agreed."""

    WRITTEN = "written"
    SPOKEN = "spoken"
    """Before a witness: the person who recorded it."""


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """That the patient agreed to show the record to an expert, and how we know."""

    form: ConsentForm
    given_by: Word
    relation: Word
    """``self``, or who the one that agreed is to the patient."""
    text_version: Word
    """Version of the text that was read or signed."""
    recorded_by: Person
    at_ms: Milliseconds


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """Which document, by its id, and what it says, by the SHA-256 of its canonical bytes."""

    id: Id
    digest: Digest


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an event may not happen: a stable code, and a sentence for a person."""

    code: str
    reason: str


Changes = Mapping[str, Any]


class What(msgspec.Struct, frozen=True, kw_only=True, tag_field="what"):
    """What happened; ``guard`` says what the table cannot, ``changes`` what becomes different."""

    def guard(self, before: "Consultation", event: "Event") -> Refusal | None:
        """Why it may not happen although state and office are right; None if it may."""
        return None

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """The fields that it changes beside state and history."""
        return {}


# -- the clinic's


class Drafted(What, frozen=True, tag="drafted"):
    """Somebody, or triage, wrote down what may become a request."""

    node: Word
    patient_id: Id
    complaint: Text = ""
    department: Word = ""
    acuity: Annotated[int, msgspec.Meta(ge=1, le=4)] | None = None
    """One of the four emergency levels, 1 the gravest, as triage suggests; None: not triaged."""
    icd: Word = ""
    studies: tuple[Word, ...] = ()
    triage: Word = ""
    """The accepted triage decision that this rests on."""


class Edited(What, frozen=True, tag="edited"):
    """A draft was changed; None leaves a field as it is."""

    complaint: Text | None = None
    department: Word | None = None
    acuity: Annotated[int, msgspec.Meta(ge=1, le=4)] | None = None
    icd: Word | None = None
    studies: tuple[Word, ...] | None = None

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """What was given."""
        given = msgspec.structs.asdict(self)
        return {name: value for name, value in given.items() if value is not None}


class Submitted(What, frozen=True, tag="submitted"):
    """A named doctor asks an expert, with the patient's recorded consent.

    What a draft has as acuity was triage's suggestion: with the request goes the level that a
    clinician accepted, or none.
    """

    consent: Consent
    acuity: Annotated[int, msgspec.Meta(ge=1, le=4)] | None = None
    triage: Word = ""

    def guard(self, before: "Consultation", event: "Event") -> Refusal | None:
        """A request is whole, or it is no request."""
        if not before.complaint.strip():
            return Refusal(code="complaint-missing", reason="write the complaint first")
        if not before.department.strip():
            return Refusal(code="department-missing", reason="choose the department first")
        consent = self.consent
        if not (consent.given_by.strip() and consent.relation.strip() and consent.text_version):
            return Refusal(code="consent-missing", reason="record who consented, and to which text")
        if consent.at_ms > event.at_ms:
            return Refusal(code="consent-missing", reason="consent comes before the request")
        return None

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """From here the doctor's name stands on it and the clock runs."""
        asked = {"doctor": event.by, "consent": self.consent, "pending_ms": event.at_ms}
        return asked | {"acuity": self.acuity, "triage": self.triage}


class Cancelled(What, frozen=True, tag="cancelled"):
    """The clinic needs it no more."""

    reason: Text

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """Why."""
        return {"reason": self.reason, "deadline_ms": None}


class Completed(What, frozen=True, tag="completed"):
    """The doctor has read the signed opinion; ``opinion`` says which one."""

    opinion: Id

    def guard(self, before: "Consultation", event: "Event") -> Refusal | None:
        """Read is only what is the last word."""
        if before.opinion is None or before.opinion.id != self.opinion:
            return Refusal(code="opinion-differs", reason="there is a later opinion: read that one")
        return None

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """The first time counts for the money."""
        first = event.at_ms if before.completed_ms is None else before.completed_ms
        return {"completed_ms": first}


# -- the hub's


class Assigned(What, frozen=True, tag="assigned"):
    """The hub asks one expert; ``match`` says why this one."""

    expert: Person
    deadline_ms: Milliseconds
    match: Match

    def guard(self, before: "Consultation", event: "Event") -> Refusal | None:
        """Nobody is asked twice for one consultation."""
        if self.expert.id in before.asked:
            return Refusal(code="asked-already", reason="this expert was asked already")
        return None

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """Who is asked, and until when."""
        return {
            "expert": self.expert,
            "match": self.match,
            "deadline_ms": self.deadline_ms,
            "asked": (*before.asked, self.expert.id),
            "waits": "",
        }


class Opened(What, frozen=True, tag="opened"):
    """Nobody can be asked now: it waits in the open inbox, and the clinic is told why."""

    code: Word
    """``nobody-online``, or ``nobody-eligible`` where no profile fits, online or not."""

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """Why it waits."""
        return {"waits": self.code, "expert": None, "match": None, "deadline_ms": None}


class Expired(What, frozen=True, tag="expired"):
    """The expert who was asked did not accept in time."""

    expert: Word

    def guard(self, before: "Consultation", event: "Event") -> Refusal | None:
        """Only the one who was asked, and only when the time is over."""
        if before.expert is None or before.expert.id != self.expert:
            return Refusal(code="not-the-expert", reason="another expert is asked")
        if before.deadline_ms is None or event.at_ms < before.deadline_ms:
            return Refusal(code="too-early", reason="the deadline is not over")
        return None

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """Nobody is asked."""
        return {"expert": None, "match": None, "deadline_ms": None}


# -- the expert's


class Accepted(What, frozen=True, tag="accepted"):
    """The expert who was asked takes it, or any who fits takes it from the open inbox."""

    def guard(self, before: "Consultation", event: "Event") -> Refusal | None:
        """Whoever was asked goes first."""
        return None if before.state is State.PENDING else _other_expert(before, event)

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """The clock stops."""
        found = {"expert": event.by, "accepted_ms": event.at_ms, "deadline_ms": None, "waits": ""}
        if event.by.id not in before.asked:
            return found | {"asked": (*before.asked, event.by.id)}
        return found


class _Experts(What, frozen=True):
    def guard(self, before: "Consultation", event: "Event") -> Refusal | None:
        """Only the expert on the case."""
        return _other_expert(before, event)


class Declined(_Experts, frozen=True, tag="declined"):
    """The expert cannot, or no longer."""

    reason: Text = ""

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """Nobody is asked."""
        return {"expert": None, "match": None, "deadline_ms": None}


class Started(_Experts, frozen=True, tag="started"):
    """The expert opened the case and works on it."""


class OpinionWritten(_Experts, frozen=True, tag="opinion-written"):
    """The expert wrote, or rewrote, what is to be signed."""

    opinion: Opinion

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """What is to be signed."""
        return {"written": self.opinion}


class Signed(_Experts, frozen=True, tag="signed"):
    """The expert signed the opinion, with the expert's own key."""

    opinion: Opinion

    def guard(self, before: "Consultation", event: "Event") -> Refusal | None:
        """What is signed is what was written last."""
        if before.written != self.opinion:
            return Refusal(code="opinion-differs", reason="the opinion was rewritten: sign that")
        return _other_expert(before, event)

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """The last word."""
        return {"opinion": self.opinion}


class Amended(_Experts, frozen=True, tag="amended"):
    """The expert signed a later opinion; the first one stays."""

    opinion: Opinion

    def changes(self, before: "Consultation", event: "Event") -> Changes:
        """The last word."""
        return {"opinion": self.opinion, "written": self.opinion}


Happened = (
    Drafted
    | Edited
    | Submitted
    | Cancelled
    | Completed
    | Assigned
    | Opened
    | Expired
    | Accepted
    | Declined
    | Started
    | OpinionWritten
    | Signed
    | Amended
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. ``id`` is also the id of the record that carried it first."""

    id: Id
    consultation: Id
    by: Person
    at_ms: Milliseconds
    what: Happened


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the hub's order made illegal, and the hub's reason."""

    event: Event
    code: Word
    reason: Text
    at_ms: Milliseconds


class Consultation(Sheet, frozen=True, kw_only=True):
    """A consultation as its events made it. ``version`` counts the events the hub has ordered.

    At the box ``waiting`` are own events that the hub has not answered: every other field shows
    them as if they had happened, ``confirmed`` is the state without them.
    """

    SHEET: ClassVar[str] = "consultation"

    id: Id
    node: Word
    patient_id: Id
    complaint: Text = ""
    department: Word = ""
    acuity: int | None = None
    icd: Word = ""
    studies: tuple[Word, ...] = ()
    triage: Word = ""
    state: State = State.DRAFT
    drafted_by: Person
    doctor: Person | None = None
    consent: Consent | None = None
    expert: Person | None = None
    match: Match | None = None
    asked: tuple[Word, ...] = ()
    waits: Word = ""
    written: Opinion | None = None
    opinion: Opinion | None = None
    reason: Text = ""
    drafted_ms: Milliseconds
    pending_ms: Milliseconds | None = None
    accepted_ms: Milliseconds | None = None
    deadline_ms: Milliseconds | None = None
    completed_ms: Milliseconds | None = None
    version: int = 0
    events: tuple[Event, ...] = ()
    waiting: tuple[Event, ...] = ()
    refused: tuple[Refused, ...] = ()
    confirmed: State | None = None

    def index(self) -> Index:
        """By its patient, its state, and when it was asked."""
        asked_ms = self.drafted_ms if self.pending_ms is None else self.pending_ms
        return Index(self.id, self.patient_id, self.state, asked_ms)


def _other_expert(before: Consultation, event: Event) -> Refusal | None:
    if before.expert is not None and before.expert.id == event.by.id:
        return None
    return Refusal(code="not-the-expert", reason="another expert is on this case, or none")


# -- the records


class ConsultationEvent(Body, frozen=True):
    """Up: something happened at the box; the hub says whether it stands."""

    event: Event


class ConsultationOrdered(Body, frozen=True):
    """Down: it stands, as number ``version`` of its consultation. Also the hub's own events."""

    event: Event
    version: Annotated[int, msgspec.Meta(ge=1)]


class ConsultationRefused(Body, frozen=True):
    """Down: it does not stand, and why. Nothing of it is kept but this."""

    consultation: Id
    event_id: Id
    code: Word
    reason: Text


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "consultation.event": {1: ConsultationEvent},
    "consultation.ordered": {1: ConsultationOrdered},
    "consultation.refused": {1: ConsultationRefused},
}
