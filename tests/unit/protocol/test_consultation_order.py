"""A box and the hub write one consultation while the line comes and goes: they end up the same."""

from collections import deque

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lianzhen_protocol import consultation_order as order
from lianzhen_protocol.consultation import (
    HUB,
    Accepted,
    Amended,
    Cancelled,
    Completed,
    Consultation,
    Declined,
    Edited,
    Event,
    Expired,
    Happened,
    Opened,
    OpinionWritten,
    Person,
    Refusal,
    Refused,
    Signed,
    Started,
    State,
    Submitted,
)
from lianzhen_protocol.consultation_table import CLINIC_OFFICES, RULES, replay
from support.consultations import (
    CASE,
    DOCTOR,
    EXPERT,
    LATER,
    MINUTE,
    NOW,
    NURSE,
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


def went(found: Consultation | Refusal) -> Consultation:
    assert isinstance(found, Consultation), found
    return found


def pending_at_both() -> tuple[Consultation, Consultation]:
    """PENDING, and both know it: (box, hub)."""
    box = hub = None
    for version, event in enumerate(story(2).events, 1):
        hub = went(order.decide(hub, event))
        box = went(order.ordered(went(order.propose(box, event)), event, version))
    assert box
    assert hub
    return box, hub


def test_an_own_event_is_shown_at_once_and_waits_for_the_hub() -> None:
    draft_event, ask = story(2).events
    box = went(order.propose(went(order.propose(None, draft_event)), ask))
    assert (box.state, box.confirmed, box.version) == (State.PENDING, None, 0)
    assert [each.id for each in box.waiting] == [draft_event.id, ask.id]
    half = went(order.ordered(box, draft_event, 1))
    assert (half.state, half.confirmed, half.version) == (State.PENDING, State.DRAFT, 1)
    whole = went(order.ordered(half, ask, 2))
    assert (whole.state, whole.confirmed, whole.waiting) == (State.PENDING, State.PENDING, ())
    assert order.find_waiting(half, ask.id) == ask
    assert order.find_waiting(whole, ask.id) is None


def test_a_cancellation_that_comes_too_late_is_refused_and_shown() -> None:
    """The doctor cancels offline; meanwhile the expert has written the opinion."""
    box, hub = pending_at_both()
    cancelled = happens(50, DOCTOR, Cancelled(reason="转院"))
    box = went(order.propose(box, cancelled))
    assert box.state is State.CANCELLED
    by_hub: tuple[tuple[Person, Happened], ...] = (
        (EXPERT, Accepted()),
        (EXPERT, Started()),
        (EXPERT, OpinionWritten(opinion=OPINION)),
    )
    down = []
    for number, (by, what) in enumerate(by_hub, 10):
        hub = went(order.decide(hub, happens(number, by, what)))
        down.append((hub.events[-1], hub.version))
    verdict = order.decide(hub, cancelled)
    assert verdict == Refusal(
        code="illegal-transition",
        reason="cancelled is not possible: the consultation is opinion",
    )
    for event, version in down:
        box = went(order.ordered(box, event, version))
    refused = Refused(event=cancelled, code=verdict.code, reason=verdict.reason, at_ms=NOW)
    hub, box = order.refuse(hub, refused), order.refuse(box, refused)
    assert (box.state, box.waiting, box.refused) == (State.OPINION, (), (refused,))
    assert box == hub
    assert order.decide(hub, cancelled) == verdict  # asked again, the same answer


def test_a_cancellation_in_time_stands_before_the_expert() -> None:
    box, hub = pending_at_both()
    cancelled = happens(50, DOCTOR, Cancelled(reason="转院"))
    hub = went(order.decide(hub, cancelled))
    assert isinstance(order.decide(hub, happens(51, EXPERT, Accepted())), Refusal)
    assert went(order.ordered(went(order.propose(box, cancelled)), cancelled, 3)) == hub


def test_a_repetition_changes_nothing() -> None:
    box, hub = pending_at_both()
    for version, event in enumerate(hub.events, 1):
        assert order.decide(hub, event) == hub
        assert order.ordered(box, event, version) == box
        again = order.propose(box, event)
        assert isinstance(again, Refusal)
        assert again.code == "repeated"


def test_what_the_box_cannot_follow_is_refused_whole() -> None:
    box, _ = pending_at_both()
    hole = order.ordered(box, happens(20, EXPERT, Accepted()), 4)
    assert isinstance(hole, Refusal)
    assert hole.code == "version-gap"
    unknown = order.ordered(None, happens(20, EXPERT, Accepted()), 1)
    assert isinstance(unknown, Refusal)
    assert unknown.code == "unknown-consultation"
    impossible = order.ordered(box, happens(20, EXPERT, Signed(opinion=OPINION)), 3)
    assert isinstance(impossible, Refusal)
    assert impossible.code == "illegal-transition"


@pytest.mark.parametrize("by", [EXPERT, HUB])
def test_the_box_writes_nothing_in_the_hubs_name(by: Person) -> None:
    box, _ = pending_at_both()
    found = order.propose(box, happens(20, by, Opened(code="nobody-online")))
    assert isinstance(found, Refusal)
    assert found.code == "not-allowed"


def test_a_first_event_that_is_refused_is_still_shown() -> None:
    begun = happens(0, NURSE, draft())
    box = went(order.propose(None, begun))
    refused = Refused(event=begun, code="not-yours", reason="another box's", at_ms=NOW)
    shown = order.refuse(box, refused)
    assert (shown.state, shown.reason) == (State.CANCELLED, "another box's")
    assert (shown.refused, shown.version, shown.confirmed) == ((refused,), 0, None)


def test_a_hub_that_was_restored_counts_and_own_events_wait_again() -> None:
    box, hub = pending_at_both()
    old = hub
    cancelled = happens(50, DOCTOR, Cancelled(reason="转院"))
    hub = went(order.decide(hub, cancelled))
    box = went(order.ordered(went(order.propose(box, cancelled)), cancelled, 3))
    hub = went(order.decide(old, happens(60, EXPERT, Accepted())))  # from its backup, it goes on
    box = went(order.ordered(box, hub.events[-1], 3))
    assert (box.confirmed, box.state) == (State.ACCEPTED, State.CANCELLED)
    assert box.waiting == (cancelled,)
    hub = went(order.decide(hub, cancelled))
    assert went(order.ordered(box, cancelled, 4)) == hub


AT_THE_BOX: tuple[tuple[Person, Happened], ...] = (
    (TRIAGE, Edited(acuity=1)),
    (NURSE, Edited(complaint="腹痛")),
    (DOCTOR, Edited(department="04", icd="K35")),
    (DOCTOR, Submitted(consent=consent())),
    (DOCTOR, Cancelled(reason="转院")),
    (DOCTOR, Completed(opinion=OPINION.id)),
    (DOCTOR, Completed(opinion=LATER.id)),
)
AT_THE_HUB: tuple[tuple[Person, Happened], ...] = (
    (HUB, assigned(EXPERT)),
    (HUB, assigned(OTHER)),
    (HUB, Opened(code="nobody-online")),
    (HUB, Expired(expert=EXPERT.id)),
    (HUB, Expired(expert=OTHER.id)),
    *((by, what) for by in (EXPERT, OTHER) for what in (Accepted(), Declined(), Started())),
    *((by, OpinionWritten(opinion=OPINION)) for by in (EXPERT, OTHER)),
    *((by, Signed(opinion=OPINION)) for by in (EXPERT, OTHER)),
    (EXPERT, Amended(opinion=LATER)),
)
Down = tuple[Event, int] | Refused


class TwoSites(RuleBasedStateMachine):
    """The wire keeps the order within a direction, may be down for long, and may say it twice."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.box: Consultation | None = None
        self.hub: Consultation | None = None
        self.up: deque[Event] = deque()
        self.down: deque[Down] = deque()
        self.said: set[str] = set()
        self.last_up: Event | None = None
        self.last_down: Down | None = None
        self.seen: set[State] = set()

    def event(self, by: Person, what: Happened) -> Event:
        self.number += 1
        return happens(self.number, by, what, at_ms=NOW + self.number * MINUTE)

    @initialize(steps=st.integers(0, len(STORY)))
    def begin(self, steps: int) -> None:
        """Somewhere on the straight way, which both sides know."""
        for by, what in STORY[:steps]:
            if by.who in CLINIC_OFFICES:
                self.clinic(by, what)
                self.line_up(1)
            else:
                self.judge(self.event(by, what))
            self.line_down(1)
        if not steps:
            self.clinic(TRIAGE, draft())

    def clinic(self, by: Person, what: Happened) -> bool:
        event = self.event(by, what)
        found = order.propose(self.box, event)
        if isinstance(found, Refusal):
            return False
        self.box = found
        self.up.append(event)
        self.said.add(event.id)
        return True

    @rule(each=st.sampled_from(AT_THE_BOX))
    def at_the_box(self, each: tuple[Person, Happened]) -> None:
        self.clinic(*each)

    @rule(each=st.sampled_from(AT_THE_HUB))
    def at_the_hub(self, each: tuple[Person, Happened]) -> None:
        self.judge(self.event(*each))

    @rule(choices=st.lists(st.integers(0, 999), min_size=1, max_size=4))
    def whatever_is_possible(self, choices: list[int]) -> None:
        """So that a run comes far: blind guesses are mostly refused."""
        for choice in choices:
            for each in rotated(AT_THE_BOX + AT_THE_HUB, choice):
                event = self.event(*each)
                if each in AT_THE_BOX:
                    if self.clinic(*each):
                        break
                elif isinstance(order.decide(self.hub, event), Consultation):
                    self.judge(event)
                    break

    def judge(self, event: Event) -> bool:
        before = self.hub
        found = order.decide(before, event)
        if isinstance(found, Consultation):
            self.hub = found
            self.seen.add(found.state)
            if found is not before:
                self.down.append((event, found.version))
                return True
        elif event.by.who in CLINIC_OFFICES and before is not None:
            refused = Refused(event=event, code=found.code, reason=found.reason, at_ms=event.at_ms)
            self.hub = order.refuse(before, refused)
            self.down.append(refused)
        return False

    @precondition(lambda self: self.up)
    @rule(count=st.integers(1, 4))
    def line_up(self, count: int) -> None:
        for _ in range(min(count, len(self.up))):
            self.last_up = self.up.popleft()
            self.judge(self.last_up)

    @precondition(lambda self: self.down)
    @rule(count=st.integers(1, 4))
    def line_down(self, count: int) -> None:
        for _ in range(min(count, len(self.down))):
            self.last_down = self.down.popleft()
            self.told(self.last_down)

    @precondition(lambda self: self.last_up)
    @rule()
    def up_twice(self) -> None:
        assert self.last_up
        self.judge(self.last_up)

    @precondition(lambda self: self.last_down)
    @rule()
    def down_twice(self) -> None:
        assert self.last_down
        self.told(self.last_down)

    def told(self, word: Down) -> None:
        if isinstance(word, Refused):
            assert self.box
            self.box = order.refuse(self.box, word)
        else:
            self.box = went(order.ordered(self.box, *word))

    @invariant()
    def each_side_is_the_replay_of_its_history(self) -> None:
        for side in (self.box, self.hub):
            if side is not None and side.events:
                again = went(replay(side.events))
                assert side.confirmed == again.state
                if not side.waiting:
                    assert plain(side) == plain(again)

    @invariant()
    def the_box_knows_a_beginning_of_the_hubs_history(self) -> None:
        known, whole = self.box.events if self.box else (), self.hub.events if self.hub else ()
        assert known == whole[: len(known)]

    @invariant()
    def no_own_event_is_lost(self) -> None:
        if self.box:
            stands = [event.id for event in self.box.events if event.by.who in CLINIC_OFFICES]
            waits = [event.id for event in self.box.waiting]
            refused = [each.event.id for each in self.box.refused]
            assert sorted([*stands, *waits, *refused]) == sorted(self.said)

    def teardown(self) -> None:
        """The line comes back: both sides are the same, and nothing waits."""
        while self.up or self.down:
            if self.up:
                self.line_up(4)
            if self.down:
                self.line_down(4)
        self.each_side_is_the_replay_of_its_history()
        self.no_own_event_is_lost()
        assert self.box == self.hub
        assert self.box is None or not self.box.waiting
        assert self.box is None or self.box.id == CASE
        REACHED.update(self.seen)


def rotated(
    each: tuple[tuple[Person, Happened], ...], by: int
) -> tuple[tuple[Person, Happened], ...]:
    at = by * 7 % len(each)
    return each[at:] + each[:at]


def plain(found: Consultation) -> Consultation:
    return msgspec.structs.replace(found, waiting=(), refused=(), confirmed=None)


REACHED: set[State] = set()


def test_two_sites_that_write_offline_come_to_the_same_consultation() -> None:
    REACHED.clear()
    bounds = settings(
        max_examples=250,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate,),
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(TwoSites, settings=bounds)
    assert {rule.after for rule in RULES.values()} == REACHED  # the walk went everywhere
