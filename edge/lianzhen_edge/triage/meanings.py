"""What records of triage do to the box's sheets."""

from typing import Final

from lianzhen_edge.journal.book import Meanings, Origin, Page
from lianzhen_protocol import triage
from lianzhen_protocol.records import Body, Record
from lianzhen_protocol.triage import SpO2ScaleSet, TriageDecided, TriageSuggested


def apply(page: Page, record: Record, body: Body) -> None:
    """One record; RecordError for what the hub has no business to say."""
    page.only_from(Origin.HERE, record)
    triage.apply(page, body)


MEANINGS: Final[Meanings] = dict.fromkeys((SpO2ScaleSet, TriageSuggested, TriageDecided), apply)
