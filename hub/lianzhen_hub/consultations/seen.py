"""The last of an item's five states: an expert has the case before them, and the clinic is told."""

from typing import ClassVar

from lianzhen_hub.ingest.projector import RECEIPTS
from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.consultation import Consultation
from lianzhen_protocol.consultation_table import CLINIC_OFFICES
from lianzhen_protocol.records import RecordSeen
from lianzhen_protocol.sheets import Index, Sheet, Sheets


class CaseSeen(Sheet, frozen=True):
    """How much of a case's history somebody at the hub has seen."""

    SHEET: ClassVar[str] = "case-seen"

    consultation: str
    version: int
    by: str
    at_ms: int

    def index(self) -> Index:
        """By consultation."""
        return Index(self.consultation, at_ms=self.at_ms)


def unseen(sheets: Sheets, case: Consultation) -> bool:
    """Whether the clinic did something that nobody here has looked at."""
    known = sheets.get(CaseSeen, case.id)
    events = case.events[known.version if known else 0 :]
    return any(event.by.who in CLINIC_OFFICES for event in events)


def seen(page: HubPage, actor: Actor, case: Consultation) -> None:
    """Tell the clinic who has seen what it did, once for each event."""
    known = page.get(CaseSeen, case.id)
    for event in case.events[known.version if known else 0 :]:
        if event.by.who in CLINIC_OFFICES:
            identity = bytes.fromhex(event.id)
            said = RecordSeen(record_id=identity, seen_by=actor.name, seen_ms=page.now_ms)
            page.send(case.node, RECEIPTS, said)
    mark = CaseSeen(consultation=case.id, version=case.version, by=actor.id, at_ms=page.now_ms)
    page.put(mark)
