"""The hub's order: what stands is numbered, kept and told to the clinic, in one commit.

Whatever happens at the hub goes through ``happen``: assignment, an expert's click, a signature.
"""

from lianzhen_hub.page import HubPage
from lianzhen_hub.settlement.pay import pay_expert
from lianzhen_protocol.consultation import (
    STREAM,
    Completed,
    Consultation,
    ConsultationOrdered,
    Event,
    Happened,
    Person,
    Refusal,
    Who,
)
from lianzhen_protocol.consultation_order import decide
from lianzhen_protocol.consultation_table import action_of
from lianzhen_runtime.errors import LianzhenError


class NotPossible(LianzhenError):
    """The consultation is not in a state for this, or it is another's; ``code`` says which."""

    code = "consultation-not-possible"
    http_status = 409


def happen(page: HubPage, consultation: str, by: Person, what: Happened) -> Consultation:
    """Write an event of the hub's side. NotPossible, and nothing happened, if it cannot stand."""
    held = page.get(Consultation, consultation)
    event = Event(id=page.new_id(), consultation=consultation, by=by, at_ms=page.now_ms, what=what)
    found = decide(held, event)
    if isinstance(found, Refusal):
        raise NotPossible(found.reason, code=found.code)
    stand(page, found)
    return found


def stand(page: HubPage, found: Consultation) -> None:
    """Keep a consultation whose last event is new, tell its clinic, and note who did it."""
    event = found.events[-1]
    page.put(found)
    page.send(found.node, STREAM, ConsultationOrdered(event=event, version=found.version))
    if isinstance(event.what, Completed):
        pay_expert(page, found)
    if event.by.who is not Who.HUB:
        page.audit(event.by.id, action_of(event.what), f"patient/{found.patient_id}")
