"""One history of a consultation, written at two places (docs/consultations.md).

The hub's order is the authority. The hub judges each event as it comes (``decide``), numbers what
stands and sends it down. The box keeps the numbered history and, apart, its own events that have
no answer yet: it shows them as if they stood (``propose``), takes the hub's word when it comes
(``ordered``, ``refuse``), and never reorders what the hub has numbered. Both sides come to the
same consultation, whatever was written while the line was down.
"""

import msgspec

from .consultation import Consultation, Event, Refusal, Refused, State
from .consultation_table import CLINIC_OFFICES, apply, replay


def propose(shown: Consultation | None, event: Event) -> Consultation | Refusal:
    """The box: ``event`` as somebody at the clinic does it, judged by what the box shows."""
    if event.by.who not in CLINIC_OFFICES:
        return Refusal(code="not-allowed", reason="this is for the hub to write")
    if shown is None:
        after = apply(None, event)
        return after if isinstance(after, Refusal) else _show((), (event,), ())
    if _known(shown, event.id):
        return Refusal(code="repeated", reason="this has happened already")
    after = apply(shown, event)
    if isinstance(after, Refusal):
        return after
    return _show(shown.events, (*shown.waiting, event), shown.refused)


def ordered(shown: Consultation | None, event: Event, version: int) -> Consultation | Refusal:
    """The box: the hub says that ``event`` stands as number ``version``.

    Repetitions change nothing. A hub that was restored from a backup may give a number another
    event: the later word counts, and own events that lost their number wait once more. A Refusal
    is for what cannot be: a hole in the numbers, or a history that this release cannot follow.
    """
    events = shown.events if shown else ()
    if shown and version <= len(events) and events[version - 1].id == event.id:
        return shown
    if version > len(events) + 1:
        return Refusal(code="version-gap", reason=f"{len(events)} events are known, not {version}")
    kept = (*events[: version - 1], event)
    again = replay(kept)
    if isinstance(again, Refusal):
        return again
    own = (each for each in events[version - 1 :] if each.by.who in CLINIC_OFFICES)
    waiting = (*own, *(shown.waiting if shown else ()))
    left = tuple(each for each in waiting if each.id != event.id)
    return _show(kept, left, shown.refused if shown else ())


def decide(held: Consultation | None, event: Event) -> Consultation | Refusal:
    """The hub: the consultation with ``event`` as its last one, or why it cannot stand.

    The same event again gets the same answer: the consultation as it is, or its refusal.
    """
    if held is not None:
        if any(each.id == event.id for each in held.events):
            return held
        for each in held.refused:
            if each.event.id == event.id:
                return Refusal(code=each.code, reason=each.reason)
    after = apply(held, event)
    if isinstance(after, Refusal):
        return after
    return msgspec.structs.replace(after, confirmed=after.state)


def refuse(held: Consultation, refused: Refused) -> Consultation:
    """Both sides: an event of ``held`` that does not stand; it is shown as refused from now on."""
    if any(each.event.id == refused.event.id for each in held.refused):
        return held
    left = tuple(each for each in held.waiting if each.id != refused.event.id)
    return _show(held.events, left, (*held.refused, refused))


def find_waiting(shown: Consultation, event_id: str) -> Event | None:
    """The own event that waits for the hub's answer under this id."""
    return next((each for each in shown.waiting if each.id == event_id), None)


def _known(shown: Consultation, event_id: str) -> bool:
    refused = (each.event for each in shown.refused)
    return any(each.id == event_id for each in (*shown.events, *shown.waiting, *refused))


def _show(
    events: tuple[Event, ...], waiting: tuple[Event, ...], refused: tuple[Refused, ...]
) -> Consultation:
    """What stands, then what waits, as far as it still fits; and what does not stand."""
    base: Consultation | None = None
    for event in events:
        after = apply(base, event)
        base = base if isinstance(after, Refusal) else after
    confirmed = base.state if base else None
    for event in waiting:
        after = apply(base, event)
        base = base if isinstance(after, Refusal) else after
    if base is None:
        base = _never_was(refused)
    return msgspec.structs.replace(
        base,
        events=events,
        version=len(events),
        waiting=waiting,
        refused=refused,
        confirmed=confirmed,
    )


def _never_was(refused: tuple[Refused, ...]) -> Consultation:
    """Its very first event was refused: it is shown so that somebody learns of it."""
    for each in refused:
        begun = apply(None, each.event)
        if isinstance(begun, Consultation):
            return msgspec.structs.replace(begun, state=State.CANCELLED, reason=each.reason)
    raise AssertionError("a consultation has a first event")
