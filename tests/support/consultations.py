"""Short ways to make the events of a consultation, for every test that needs one."""

from lianzhen_protocol.consultation import (
    HUB,
    Accepted,
    Assigned,
    Consent,
    ConsentForm,
    Consultation,
    Drafted,
    Event,
    Happened,
    Opinion,
    OpinionWritten,
    Person,
    Refusal,
    Signed,
    Started,
    Submitted,
    Who,
)
from lianzhen_protocol.consultation_table import replay
from lianzhen_protocol.matching import Match

NODE = "n0123456789ab"
PATIENT = "01900000000070008000000000000001"
CASE = "01900000000070008000000000000002"
NOW = 1_795_400_000_000
MINUTE = 60_000

TRIAGE = Person(id="triage", name="triage", who=Who.TRIAGE)
NURSE = Person(id="a-nurse", name="李护士", who=Who.NURSE)
DOCTOR = Person(id="a-doctor", name="王医生", who=Who.DOCTOR)
EXPERT = Person(id="e-1", name="陈主任", who=Who.EXPERT)
OTHER = Person(id="e-2", name="刘主任", who=Who.EXPERT)
MATCH = Match(expert="e-1", score=0.9, factors=())
OPINION = Opinion(id="0" * 31 + "a", digest="ab" * 32)
LATER = Opinion(id="0" * 31 + "b", digest="cd" * 32)

OFFICES = (TRIAGE, NURSE, DOCTOR, EXPERT, OTHER, HUB)


def event_id(number: int) -> str:
    """A UUIDv7 that tells its number."""
    return f"0190000000007000a{number:015x}"


def happens(number: int, by: Person, what: Happened, at_ms: int | None = None) -> Event:
    """Event ``number`` of CASE."""
    when = NOW + number if at_ms is None else at_ms
    return Event(id=event_id(number), consultation=CASE, by=by, at_ms=when, what=what)


def consent(at_ms: int = NOW, **changes: str) -> Consent:
    """One that is whole."""
    words = {"given_by": "张三", "relation": "self", "text_version": "1"} | changes
    return Consent(form=ConsentForm.WRITTEN, recorded_by=DOCTOR, at_ms=at_ms, **words)


def draft(complaint: str = "胸痛两小时", department: str = "03.04") -> Drafted:
    """What triage or a nurse writes down."""
    return Drafted(node=NODE, patient_id=PATIENT, complaint=complaint, department=department)


def assigned(expert: Person = EXPERT, deadline_ms: int = NOW + 5 * MINUTE) -> Assigned:
    """The hub asks ``expert``."""
    return Assigned(expert=expert, deadline_ms=deadline_ms, match=MATCH)


STORY: tuple[tuple[Person, Happened], ...] = (
    (TRIAGE, draft()),
    (DOCTOR, Submitted(consent=consent())),
    (HUB, assigned()),
    (EXPERT, Accepted()),
    (EXPERT, Started()),
    (EXPERT, OpinionWritten(opinion=OPINION)),
    (EXPERT, Signed(opinion=OPINION)),
)
"""The straight way from a draft to a signed opinion."""


def story(steps: int) -> Consultation:
    """CASE after the first ``steps`` steps of STORY."""
    found = replay([happens(n, *step) for n, step in enumerate(STORY[:steps])])
    if isinstance(found, Refusal):
        raise AssertionError(found)
    return found
