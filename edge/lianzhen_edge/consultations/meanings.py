"""What the records of consultations do on this box: own events wait, the hub's word counts."""

from typing import Final

from lianzhen_edge.journal.book import Meanings, Origin, Page
from lianzhen_protocol import consultation_order as order
from lianzhen_protocol.consultation import (
    Consultation,
    ConsultationEvent,
    ConsultationOrdered,
    ConsultationRefused,
    Refusal,
    Refused,
)
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.records import Record
from lianzhen_protocol.sheets import means


def happened(page: Page, record: Record, body: ConsultationEvent) -> None:
    """An own event: shown at once, marked as waiting. RecordError if it is not possible here."""
    page.only_from(Origin.HERE, record)
    shown = page.get(Consultation, body.event.consultation)
    page.put(_whole(order.propose(shown, body.event)))


def ordered(page: Page, record: Record, body: ConsultationOrdered) -> None:
    """The hub's order; RecordError, and it is kept, for what this release cannot follow."""
    page.only_from(Origin.HUB, record)
    shown = page.get(Consultation, body.event.consultation)
    page.put(_whole(order.ordered(shown, body.event, body.version)))


def refused(page: Page, record: Record, body: ConsultationRefused) -> None:
    """An own event does not stand: from now on it is shown with the hub's reason."""
    page.only_from(Origin.HUB, record)
    shown = page.get(Consultation, body.consultation)
    event = order.find_waiting(shown, body.event_id) if shown else None
    if shown is not None and event is not None:
        why = Refused(event=event, code=body.code, reason=body.reason, at_ms=record.created_ms)
        page.put(order.refuse(shown, why))


def _whole(found: Consultation | Refusal) -> Consultation:
    if isinstance(found, Refusal):
        raise RecordError(found.reason, code=found.code)
    return found


MEANINGS: Final[Meanings] = dict(
    [
        means(ConsultationEvent, happened),
        means(ConsultationOrdered, ordered),
        means(ConsultationRefused, refused),
    ]
)
