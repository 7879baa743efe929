"""The last of an item's five states: an expert has a suggestion before them, its box is told."""

from typing import ClassVar

from lianzhen_hub.ingest.projector import RECEIPTS
from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Actor
from lianzhen_protocol.records import RecordSeen
from lianzhen_protocol.sheets import Index, Sheet, Sheets
from lianzhen_protocol.triage import TriageSuggestion


class TriageSeen(Sheet, frozen=True):
    """Which records of a suggestion somebody at the hub has seen."""

    SHEET: ClassVar[str] = "triage-seen"

    suggestion_id: str
    records: tuple[str, ...]
    at_ms: int

    def index(self) -> Index:
        """By suggestion."""
        return Index(self.suggestion_id, at_ms=self.at_ms)


def unseen(sheets: Sheets, shown: TriageSuggestion) -> tuple[str, ...]:
    """Ids of the records behind it that nobody at the hub has seen yet."""
    known = sheets.get(TriageSeen, shown.suggested.suggestion_id)
    decision = shown.decided.decision_id if shown.decided else ""
    records = (shown.suggested.suggestion_id, decision)
    return tuple(each for each in records if each and (known is None or each not in known.records))


def seen(page: HubPage, actor: Actor, node: str, shown: TriageSuggestion) -> None:
    """Tell the clinic who has seen them, once for each."""
    fresh, key = unseen(page, shown), shown.suggested.suggestion_id
    if not fresh:
        return
    known = page.get(TriageSeen, key)
    for each in fresh:
        said = RecordSeen(record_id=bytes.fromhex(each), seen_by=actor.name, seen_ms=page.now_ms)
        page.send(node, RECEIPTS, said)
    records = (*(known.records if known else ()), *fresh)
    page.put(TriageSeen(suggestion_id=key, records=records, at_ms=page.now_ms))
