"""The transition table of a consultation: which event may happen in which state, in whose hands.

``apply`` is the only way in which a consultation changes, on the box and at the hub, and
``replay`` of its events is the consultation.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from .audit import Action
from .consultation import (
    Accepted,
    Amended,
    Assigned,
    Cancelled,
    Completed,
    Consultation,
    Declined,
    Drafted,
    Edited,
    Event,
    Expired,
    Opened,
    OpinionWritten,
    Refusal,
    Signed,
    Started,
    State,
    Submitted,
    What,
    Who,
)


class Rule(NamedTuple):
    """From which states an event leads where, and in whose hands it lies."""

    by: frozenset[Who]
    before: frozenset[State]
    after: State


def _rule(by: Iterable[Who], before: Iterable[State], after: State) -> Rule:
    return Rule(frozenset(by), frozenset(before), after)


_CLINIC = (Who.NURSE, Who.DOCTOR)
_UNANSWERED = (State.PENDING, State.DECLINED, State.EXPIRED)
_UNWRITTEN = (State.ASSIGNED, State.ACCEPTED, State.IN_PROGRESS)

RULES: Final[Mapping[type[What], Rule]] = {
    Drafted: _rule((Who.TRIAGE, *_CLINIC), (), State.DRAFT),
    Edited: _rule((Who.TRIAGE, *_CLINIC), (State.DRAFT,), State.DRAFT),
    Submitted: _rule((Who.DOCTOR,), (State.DRAFT,), State.PENDING),
    Assigned: _rule((Who.HUB,), _UNANSWERED, State.ASSIGNED),
    Opened: _rule((Who.HUB,), _UNANSWERED, State.PENDING),
    Expired: _rule((Who.HUB,), (State.ASSIGNED,), State.EXPIRED),
    Accepted: _rule((Who.EXPERT,), (State.PENDING, State.ASSIGNED), State.ACCEPTED),
    Declined: _rule((Who.EXPERT,), _UNWRITTEN, State.DECLINED),
    Started: _rule((Who.EXPERT,), (State.ACCEPTED,), State.IN_PROGRESS),
    OpinionWritten: _rule((Who.EXPERT,), (State.IN_PROGRESS, State.OPINION), State.OPINION),
    Signed: _rule((Who.EXPERT,), (State.OPINION,), State.SIGNED),
    Amended: _rule((Who.EXPERT,), (State.SIGNED, State.COMPLETED, State.AMENDED), State.AMENDED),
    Completed: _rule((Who.DOCTOR,), (State.SIGNED, State.AMENDED), State.COMPLETED),
    Cancelled: _rule((Who.DOCTOR,), (State.DRAFT, *_UNANSWERED, *_UNWRITTEN), State.CANCELLED),
}
"""Every event once. ``Drafted`` comes from nothing; what stands in no rule is not possible."""

CLINIC_OFFICES: Final = frozenset({Who.TRIAGE, *_CLINIC})
"""Whose events come from a box; all others are the hub's to write."""


def name_of(what: What) -> str:
    """The event's name as it is written."""
    return str(type(what).__struct_config__.tag)


_ACTIONS: Final[Mapping[type[What], Action]] = {
    Drafted: "create",
    Edited: "change",
    Submitted: "submit",
    OpinionWritten: "change",
    Signed: "sign",
    Amended: "sign",
}


def action_of(what: What) -> Action:
    """The word under which an event stands in the audit log; most are somebody's decision."""
    return _ACTIONS.get(type(what), "decide")


def apply(before: Consultation | None, event: Event) -> Consultation | Refusal:
    """The consultation after ``event``, or why it cannot happen. ``before``: None if new."""
    what, rule = event.what, RULES[type(event.what)]
    if event.by.who not in rule.by:
        reason = f"{name_of(what)} is not in the hands of {event.by.who}"
        return Refusal(code="not-allowed", reason=reason)
    if isinstance(what, Drafted):
        return _begin(event, what) if before is None else _exists()
    if before is None or before.id != event.consultation:
        return Refusal(code="unknown-consultation", reason="there is no such consultation")
    if any(known.id == event.id for known in before.events):
        return Refusal(code="repeated", reason="this has happened already")
    if before.state not in rule.before:
        reason = f"{name_of(what)} is not possible: the consultation is {before.state}"
        return Refusal(code="illegal-transition", reason=reason)
    refusal = what.guard(before, event)
    if refusal is not None:
        return refusal
    history = {"version": before.version + 1, "events": (*before.events, event)}
    changes = what.changes(before, event)
    return msgspec.structs.replace(before, state=rule.after, **history, **changes)


def replay(events: Iterable[Event]) -> Consultation | Refusal:
    """What a history comes to; the first refusal, if it is none."""
    found: Consultation | None = None
    for event in events:
        after = apply(found, event)
        if isinstance(after, Refusal):
            return after
        found = after
    return found or Refusal(code="unknown-consultation", reason="nothing has happened")


def _begin(event: Event, draft: Drafted) -> Consultation:
    return Consultation(
        id=event.consultation,
        drafted_by=event.by,
        drafted_ms=event.at_ms,
        version=1,
        events=(event,),
        **msgspec.structs.asdict(draft),
    )


def _exists() -> Refusal:
    return Refusal(code="exists", reason="there is a consultation with this id already")
