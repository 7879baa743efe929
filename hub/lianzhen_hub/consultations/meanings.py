"""A box's events: each is ordered or refused, and the clinic is told which."""

from typing import Final

from lianzhen_hub.ingest.projector import RECEIPTS
from lianzhen_hub.page import HubPage, Meanings, misplaced
from lianzhen_protocol.consultation import (
    STREAM,
    Consultation,
    ConsultationEvent,
    ConsultationOrdered,
    ConsultationRefused,
    Drafted,
    Event,
    Refusal,
    Refused,
)
from lianzhen_protocol.consultation_order import decide, refuse
from lianzhen_protocol.consultation_table import CLINIC_OFFICES
from lianzhen_protocol.records import Record, RecordRejected
from lianzhen_protocol.sheets import means

from .history import stand


def judge(page: HubPage, record: Record, body: ConsultationEvent) -> None:
    """Order the event, or refuse it: also a refusal is an answer, and the stream goes on."""
    event = body.event
    held = page.get(Consultation, event.consultation)
    found = _foreign(page.node, held, event) or decide(held, event)
    if isinstance(found, Refusal):
        if held is not None and held.node == page.node:
            refused = Refused(event=event, code=found.code, reason=found.reason, at_ms=page.now_ms)
            page.put(refuse(held, refused))
        _refuse(page, record, event, found)
    elif found is held:  # a box whose journal was lost says what it said before
        version = [each.id for each in found.events].index(event.id) + 1
        page.send(page.node, STREAM, ConsultationOrdered(event=event, version=version))
    else:
        stand(page, found)


def _foreign(node: str, held: Consultation | None, event: Event) -> Refusal | None:
    """A box speaks for its own clinic, about its own patients' consultations."""
    if event.by.who not in CLINIC_OFFICES:
        return Refusal(code="not-allowed", reason="this is for the hub to write")
    owner = event.what.node if isinstance(event.what, Drafted) else node
    if owner != node or (held is not None and held.node != node):
        return Refusal(code="not-yours", reason="this consultation is another clinic's")
    return None


def _refuse(page: HubPage, record: Record, event: Event, refusal: Refusal) -> None:
    answer = ConsultationRefused(
        consultation=event.consultation,
        event_id=event.id,
        code=refusal.code,
        reason=refusal.reason,
    )
    page.send(page.node, STREAM, answer)
    rejected = RecordRejected(record_id=record.id, code=refusal.code, reason=refusal.reason)
    page.send(page.node, RECEIPTS, rejected)


MEANINGS: Final[Meanings] = dict(
    [
        means(ConsultationEvent, judge),
        means(ConsultationOrdered, misplaced),
        means(ConsultationRefused, misplaced),
    ]
)
