"""What a box's records of triage do at the hub."""

from typing import Final

from lianzhen_hub.page import HubPage, Meanings
from lianzhen_protocol import triage
from lianzhen_protocol.records import Body, Record
from lianzhen_protocol.triage import SpO2ScaleSet, TriageDecided, TriageSuggested


def apply(page: HubPage, _record: Record, body: Body) -> None:
    """One record of a box."""
    triage.apply(page, body)


MEANINGS: Final[Meanings] = dict.fromkeys((SpO2ScaleSet, TriageSuggested, TriageDecided), apply)
