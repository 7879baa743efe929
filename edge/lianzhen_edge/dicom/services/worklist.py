"""Modality Worklist (PS3.4, K): what is ordered and not yet done, as a modality asks for it.

Every order is for whichever station asks, as a clinic has few and no plan; and it is due until it
is performed: one of an earlier day is due today, at the day's beginning.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from lianzhen_edge.dicom.dimse import Field, Link, Request, Response
from lianzhen_protocol.people import CHINA

from . import matching
from .asking import answers, asked_by
from .matching import Attributes, Value
from .said import Due, Listed

SOP_CLASS: Final = "1.2.840.10008.5.1.4.31"

_STEPS: Final = 0x00400100
_STATION, _START_DATE, _START_TIME, _MODALITY = 0x00400001, 0x00400002, 0x00400003, 0x00080060


def attributes(due: Due, asked: Attributes, station: str, now_ms: int) -> Attributes:
    """One worklist entry (PS3.4, table K.6-1), for the station that asks."""
    step = _first(asked.get(_STEPS, ()))
    title = matching.text(step, _STATION)
    named = bool(title) and not set(title) & set("*?\\")
    modality = due.modality or matching.text(step, _MODALITY) or "OT"
    start = max(due.at_ms, _midnight(now_ms))
    when = datetime.fromtimestamp(start / 1000, UTC).astimezone(CHINA)
    return {
        0x00080050: due.accession,
        0x00080080: _line(due.clinic),
        0x00080090: _line(due.by),
        0x00081110: [],  # Referenced Study Sequence
        0x00081120: [],  # Referenced Patient Sequence
        0x00100010: due.name,
        0x00100020: due.number,
        0x00100030: due.birth_date,
        0x00100040: due.sex if due.sex in ("M", "F") else "",
        0x001021C0: "" if due.sex == "M" else {True: "3", False: "1", None: "4"}[due.pregnant],
        0x0020000D: due.study_uid,
        0x00321032: _line(due.by),
        0x00321060: due.procedure,
        0x00321064: [],  # Requested Procedure Code Sequence
        0x00401001: due.accession,
        0x00401002: _line(due.reason),
        0x00401003: "STAT" if due.urgent else "ROUTINE",
        _STEPS: [
            {
                _MODALITY: modality,
                _STATION: title if named else station,
                _START_DATE: when.strftime("%Y%m%d"),
                _START_TIME: when.strftime("%H%M%S"),
                0x00400006: "",  # Scheduled Performing Physician's Name
                0x00400007: due.procedure,
                0x00400008: [],  # Scheduled Protocol Code Sequence
                0x00400009: due.accession,
                0x00400020: "STARTED" if due.started else "SCHEDULED",
            }
        ],
    }


def _line(text: str) -> str:
    """What people wrote as DICOM's LO: one line of 64 characters, no backslash."""
    return "".join(" " if sign in "\\^=" or sign < " " else sign for sign in text)[:64].strip()


def _first(value: Value) -> Attributes:
    return value[0] if not isinstance(value, str) and value else {}


def _midnight(now_ms: int) -> int:
    day = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(CHINA)
    start = day.replace(hour=0, minute=0, second=0, microsecond=0)
    return int((start - datetime.fromtimestamp(0, UTC)) / timedelta(milliseconds=1))


class Worklist:
    """The service; ``due`` asks the core."""

    sop_classes: Sequence[str] = (SOP_CLASS,)

    def __init__(self, due: Callable[[], Listed]) -> None:
        self._due = due

    def answer(self, request: Request, link: Link) -> Iterator[Response]:
        """C-FIND."""
        query = asked_by(request, Field.C_FIND)
        listed = self._due()
        found = [attributes(one, query, link.peer.title, listed.now_ms) for one in listed.due]
        yield from answers(request, link, query, found)
