"""The transition table of a consultation: every way that exists, and no other."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol.consultation import (
    HUB,
    Accepted,
    Amended,
    Assigned,
    Cancelled,
    Completed,
    Consultation,
    ConsultationEvent,
    Declined,
    Drafted,
    Edited,
    Event,
    Expired,
    Happened,
    Opened,
    OpinionWritten,
    Person,
    Refusal,
    Signed,
    Started,
    State,
    Submitted,
    What,
    Who,
)
from lianzhen_protocol.consultation_table import RULES, apply, replay
from support.consultations import (
    DOCTOR,
    EXPERT,
    LATER,
    MINUTE,
    NODE,
    NOW,
    NURSE,
    OFFICES,
    OPINION,
    OTHER,
    STORY,
    TRIAGE,
    assigned,
    consent,
    draft,
    happens,
    story,
)


def after(before: Consultation | None, by: Person, what: Happened, **at: int) -> Consultation:
    found = apply(before, happens(before.version if before else 0, by, what, **at))
    assert isinstance(found, Consultation), found
    return found


def refusal(before: Consultation | None, by: Person, what: Happened, **at: int) -> str:
    found = apply(before, happens(90, by, what, **at))
    assert isinstance(found, Refusal)
    return found.code


LEGAL: dict[type[What], Happened] = {
    Drafted: draft(),
    Edited: Edited(complaint="胸痛三小时"),
    Submitted: Submitted(consent=consent()),
    Cancelled: Cancelled(reason="转院"),
    Completed: Completed(opinion=OPINION.id),
    Assigned: assigned(OTHER),
    Opened: Opened(code="nobody-online"),
    Expired: Expired(expert=EXPERT.id),
    Accepted: Accepted(),
    Declined: Declined(),
    Started: Started(),
    OpinionWritten: OpinionWritten(opinion=OPINION),
    Signed: Signed(opinion=OPINION),
    Amended: Amended(opinion=LATER),
}
BY = {Who.HUB: HUB, Who.EXPERT: EXPERT, Who.DOCTOR: DOCTOR, Who.NURSE: NURSE, Who.TRIAGE: TRIAGE}
MANY_MINUTES = NOW + 30 * MINUTE


def in_state(state: State) -> Consultation:
    """CASE in ``state``, with EXPERT on it where somebody can be."""
    straight = {
        State.DRAFT: 1, State.PENDING: 2, State.ASSIGNED: 3, State.ACCEPTED: 4,
        State.IN_PROGRESS: 5, State.OPINION: 6, State.SIGNED: 7,
    }  # fmt: skip
    if state in straight:
        return story(straight[state])
    begun = story(3)
    match state:
        case State.DECLINED:
            return after(begun, EXPERT, Declined())
        case State.EXPIRED:
            return after(begun, HUB, LEGAL[Expired], at_ms=NOW + 5 * MINUTE)
        case State.CANCELLED:
            return after(begun, DOCTOR, LEGAL[Cancelled])
        case State.COMPLETED:
            return after(story(7), DOCTOR, LEGAL[Completed])
        case _:
            return after(story(7), EXPERT, LEGAL[Amended])


def test_every_event_has_one_rule_and_every_state_is_reached() -> None:
    assert set(LEGAL) == set(RULES)
    assert {rule.after for rule in RULES.values()} == set(State)
    assert {in_state(state).state for state in State} == set(State)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", RULES)
def test_only_what_the_table_says_happens(state: State, kind: type[What]) -> None:
    before = in_state(state)
    what, rule = LEGAL[kind], RULES[kind]
    if kind is Completed and before.opinion:
        what = Completed(opinion=before.opinion.id)
    by = BY[max(rule.by)]
    event = happens(91, by, what, at_ms=MANY_MINUTES)
    found = apply(before, event)
    if state in rule.before:
        assert isinstance(found, Consultation)
        assert (found.state, found.version) == (rule.after, before.version + 1)
        assert found.events == (*before.events, event)
    else:
        assert isinstance(found, Refusal)
        assert found.code == ("exists" if kind is Drafted else "illegal-transition")


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("by", OFFICES)
def test_nobody_acts_in_another_office(kind: type[What], by: Person) -> None:
    for state in State:
        found = apply(in_state(state), happens(91, by, LEGAL[kind]))
        refused = isinstance(found, Refusal) and found.code == "not-allowed"
        assert refused == (by.who not in RULES[kind].by)


def test_triage_only_drafts() -> None:
    assert {kind for kind, rule in RULES.items() if Who.TRIAGE in rule.by} == {Drafted, Edited}


def test_pending_needs_a_doctor() -> None:
    for by in (TRIAGE, NURSE, EXPERT, HUB):
        assert refusal(story(1), by, Submitted(consent=consent())) == "not-allowed"
    asked = story(2)
    assert (asked.doctor, asked.consent, asked.state) == (DOCTOR, consent(), State.PENDING)


@pytest.mark.parametrize(
    ("begin", "agreed", "code"),
    [
        (draft(complaint=" "), consent(), "complaint-missing"),
        (draft(department=""), consent(), "department-missing"),
        (draft(), consent(given_by=" "), "consent-missing"),
        (draft(), consent(relation=""), "consent-missing"),
        (draft(), consent(text_version=""), "consent-missing"),
        (draft(), consent(at_ms=NOW + MINUTE), "consent-missing"),
    ],
)
def test_pending_needs_complaint_department_and_consent(
    begin: Drafted, agreed: object, code: str
) -> None:
    asks = Submitted(consent=msgspec.convert(agreed, type(consent()), from_attributes=True))
    assert refusal(after(None, NURSE, begin), DOCTOR, asks) == code


def test_a_draft_may_be_written_later_and_by_somebody_else() -> None:
    begun = after(None, TRIAGE, draft(complaint="", department=""))
    edited = after(begun, DOCTOR, Edited(complaint="腹痛", department="04", acuity=2))
    assert (edited.complaint, edited.department, edited.acuity) == ("腹痛", "04", 2)
    again = after(edited, NURSE, Edited(icd="I10"))
    assert (again.complaint, again.icd, again.state) == ("腹痛", "I10", State.DRAFT)


def test_a_request_goes_with_the_accepted_level_and_not_with_the_suggested_one() -> None:
    suggested = after(None, TRIAGE, msgspec.structs.replace(draft(), acuity=1))
    assert suggested.acuity == 1
    asked = after(suggested, DOCTOR, Submitted(consent=consent(), acuity=2, triage="t"))
    assert (asked.acuity, asked.triage) == (2, "t")
    unaccepted = after(suggested, DOCTOR, Submitted(consent=consent()))
    assert unaccepted.acuity is None


def test_only_the_expert_who_is_asked_answers() -> None:
    assert refusal(story(3), OTHER, Accepted()) == "not-the-expert"
    assert refusal(story(3), OTHER, Declined()) == "not-the-expert"
    for steps in (4, 5, 6, 7):
        happening = (Declined(), Started(), LEGAL[OpinionWritten], LEGAL[Signed], LEGAL[Amended])
        for what in happening:
            if story(steps).state in RULES[type(what)].before:
                assert refusal(story(steps), OTHER, what) == "not-the-expert"


def test_it_expires_at_the_deadline_and_not_before() -> None:
    before = story(3)
    assert before.deadline_ms == NOW + 5 * MINUTE
    late, early = NOW + 5 * MINUTE, NOW + 5 * MINUTE - 1
    assert refusal(before, HUB, Expired(expert="e-1"), at_ms=early) == "too-early"
    assert refusal(before, HUB, Expired(expert="e-2"), at_ms=late) == "not-the-expert"
    expired = after(before, HUB, Expired(expert="e-1"), at_ms=late)
    assert (expired.state, expired.expert, expired.deadline_ms) == (State.EXPIRED, None, None)


def test_the_next_expert_is_another_one() -> None:
    expired = in_state(State.EXPIRED)
    assert refusal(expired, HUB, assigned(EXPERT)) == "asked-already"
    again = after(expired, HUB, assigned(OTHER, deadline_ms=NOW + 10 * MINUTE))
    assert (again.state, again.expert, again.asked) == (State.ASSIGNED, OTHER, ("e-1", "e-2"))


def test_from_the_open_inbox_anybody_may_take_it_also_who_let_it_expire() -> None:
    opened = after(in_state(State.EXPIRED), HUB, Opened(code="nobody-online"))
    assert (opened.state, opened.waits) == (State.PENDING, "nobody-online")
    taken = after(opened, EXPERT, Accepted())
    assert (taken.state, taken.expert, taken.waits) == (State.ACCEPTED, EXPERT, "")
    assert taken.asked == ("e-1",)


def test_what_is_signed_is_what_was_written_last() -> None:
    rewritten = after(story(6), EXPERT, OpinionWritten(opinion=LATER))
    assert refusal(rewritten, EXPERT, Signed(opinion=OPINION)) == "opinion-differs"
    assert after(rewritten, EXPERT, Signed(opinion=LATER)).opinion == LATER


def test_the_doctor_confirms_the_last_opinion_and_the_first_time_counts() -> None:
    done = after(story(7), DOCTOR, Completed(opinion=OPINION.id))
    amended = after(done, EXPERT, Amended(opinion=LATER))
    assert refusal(amended, DOCTOR, Completed(opinion=OPINION.id)) == "opinion-differs"
    again = after(amended, DOCTOR, Completed(opinion=LATER.id))
    assert again.completed_ms == done.completed_ms == done.events[-1].at_ms


def test_the_clinic_cancels_until_an_opinion_is_written() -> None:
    for state in State:
        found = apply(in_state(state), happens(91, DOCTOR, LEGAL[Cancelled]))
        written = {State.OPINION, State.SIGNED, State.COMPLETED, State.AMENDED, State.CANCELLED}
        assert isinstance(found, Refusal) == (state in written)


def test_an_event_happens_once() -> None:
    begun = story(1)
    event = happens(1, DOCTOR, Edited(complaint="腹痛"))
    edited = apply(begun, event)
    assert isinstance(edited, Consultation)
    again = apply(edited, event)
    assert isinstance(again, Refusal)
    assert again.code == "repeated"


def test_without_a_draft_there_is_nothing() -> None:
    for kind, what in LEGAL.items():
        if kind is not Drafted:
            by = BY[max(RULES[kind].by)]
            assert refusal(None, by, what) == "unknown-consultation"
    other = msgspec.structs.replace(happens(1, DOCTOR, LEGAL[Edited]), consultation="f" * 32)
    found = apply(story(1), other)
    assert isinstance(found, Refusal)
    assert found.code == "unknown-consultation"


def test_what_it_is_found_by_says_nothing_of_the_patient_but_the_id() -> None:
    found = story(2)
    assert found.index() == (found.id, found.patient_id, "pending", found.pending_ms)


def test_a_history_goes_through_a_record_unchanged() -> None:
    for event in story(len(STORY)).events:
        body = ConsultationEvent(event=event)
        packed = msgspec.msgpack.encode(body)
        assert msgspec.msgpack.decode(packed, type=ConsultationEvent) == body
    found = story(len(STORY))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Consultation) == found


walks = st.lists(
    st.tuples(st.sampled_from(OFFICES), st.sampled_from([*LEGAL.values(), assigned(EXPERT)])),
    max_size=40,
)


@given(walks)
def test_any_walk_stays_in_the_table_and_its_replay_is_its_state(
    walk: list[tuple[Person, Happened]],
) -> None:
    found: Consultation | None = None
    for number, (by, what) in enumerate([(TRIAGE, draft()), *walk]):
        event = happens(number, by, what, at_ms=NOW + number * MINUTE)
        before, outcome = found, apply(found, event)
        if isinstance(outcome, Refusal):
            continue
        found = outcome
        rule = RULES[type(what)]
        assert by.who in rule.by
        assert before is None or before.state in rule.before
        assert found.state is rule.after
        assert found.node == NODE
        if found.state not in (State.DRAFT, State.CANCELLED):
            assert found.doctor
            assert found.consent
            assert found.complaint
            assert found.department
        assert (found.deadline_ms is not None) == (found.state is State.ASSIGNED)
    assert found is not None
    assert replay(found.events) == found
    assert [event.id for event in found.events] == sorted({event.id for event in found.events})


def test_a_history_that_is_none_says_why() -> None:
    empty = replay([])
    assert isinstance(empty, Refusal)
    events: list[Event] = [happens(0, TRIAGE, draft()), happens(1, EXPERT, Accepted())]
    wrong = replay(events)
    assert isinstance(wrong, Refusal)
    assert wrong.code == "illegal-transition"


def test_all_pairs_of_states_that_the_table_joins() -> None:
    """Named here once more by hand, so that a change of the table is seen."""
    joined = {(before, rule.after) for rule in RULES.values() for before in rule.before}
    s = State
    unanswered = (s.PENDING, s.DECLINED, s.EXPIRED)
    unwritten = (s.ASSIGNED, s.ACCEPTED, s.IN_PROGRESS)
    expected = {
        (s.DRAFT, s.DRAFT), (s.DRAFT, s.PENDING), (s.PENDING, s.ACCEPTED),
        (s.ASSIGNED, s.ACCEPTED), (s.ASSIGNED, s.EXPIRED), (s.ACCEPTED, s.IN_PROGRESS),
        (s.IN_PROGRESS, s.OPINION), (s.OPINION, s.OPINION), (s.OPINION, s.SIGNED),
        (s.SIGNED, s.AMENDED), (s.COMPLETED, s.AMENDED), (s.AMENDED, s.AMENDED),
        (s.SIGNED, s.COMPLETED), (s.AMENDED, s.COMPLETED),
    }  # fmt: skip
    expected |= set(itertools.product(unanswered, (s.ASSIGNED, s.PENDING)))
    expected |= {(before, s.DECLINED) for before in unwritten}
    expected |= {(before, s.CANCELLED) for before in (s.DRAFT, *unanswered, *unwritten)}
    assert joined == expected
