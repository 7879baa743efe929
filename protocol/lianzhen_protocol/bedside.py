"""What stands at a bedside: the newest values with their age, NEWS2 with its parts, a trend.

Made from sheets alone, so that the clinic and the expert see the same.
"""

from typing import Final

import msgspec

from . import alarms, news2
from .alarms import Alarm, AlarmState
from .sheets import Sheets
from .vitals import MEANING, Absent, Parameter, Quality, Reading, Vitals

ORDER: Final = (
    *(Parameter.RESPIRATION, Parameter.SPO2, Parameter.OXYGEN, Parameter.SYSTOLIC),
    *(Parameter.DIASTOLIC, Parameter.PULSE, Parameter.CONSCIOUSNESS, Parameter.TEMPERATURE),
)
"""Of NEWS2's chart."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter. ``points`` of NEWS2 are None where it has none, or does not count."""

    parameter: Parameter
    loinc: str
    unit: str
    value: float | None = None
    code: str = ""
    at_ms: int = 0
    """Corrected time; 0: never measured."""
    stale: bool = False
    """Too old to speak for the present."""
    absent: Absent | None = None
    """The device has no value since, for this reason."""
    quality: Quality = Quality.GOOD
    points: int | None = None


class Bedside(msgspec.Struct, frozen=True, kw_only=True):
    """A subject now. ``score`` is None for whom NEWS2 is not made (``exempt``)."""

    subject: str
    heard_ms: int
    signs: tuple[Shown, ...]
    score: news2.News2 | None
    exempt: news2.Exempt | None
    alarms: tuple[Alarm, ...]
    """Those that stand, the newest first."""


def bedside(sheets: Sheets, subject: str, now_ms: int) -> Bedside:
    """What is known of a patient, or of whoever wears an unassigned device."""
    state = sheets.get(Vitals, subject) or Vitals(subject=subject)
    assessment = alarms.assess(sheets, subject, now_ms)
    points = {}
    if assessment.score is not None:
        points = {Parameter(part.sign): part.points for part in assessment.score.parts}
    return Bedside(
        subject=subject,
        heard_ms=state.heard_ms,
        signs=tuple(_shown(state, each, points.get(each), now_ms) for each in ORDER),
        score=assessment.score,
        exempt=assessment.exempt,
        alarms=tuple(standing(sheets, subject)),
    )


def standing(sheets: Sheets, subject: str | None = None) -> list[Alarm]:
    """Alarms that ring or were only heard, of one subject or of all: the gravest first."""
    states = (AlarmState.RINGING, AlarmState.ACKNOWLEDGED)
    found = [each for state in states for each in sheets.find(Alarm, owner=subject, state=state)]
    found.sort(
        key=lambda one: (one.state is AlarmState.RINGING, one.severity.rank, one.raised_ms),
        reverse=True,
    )
    return found


def _shown(state: Vitals, parameter: Parameter, points: int | None, now_ms: int) -> Shown:
    meaning, latest = MEANING[parameter], state.latest.get(parameter)
    if latest is None:
        return Shown(parameter=parameter, loinc=meaning.loinc, unit=meaning.unit)
    return Shown(
        parameter=parameter,
        loinc=meaning.loinc,
        unit=meaning.unit,
        value=latest.value,
        code=latest.code,
        at_ms=latest.at_ms,
        stale=bool(latest.at_ms) and now_ms - latest.at_ms > meaning.holds_ms,
        absent=latest.absent if latest.failing else None,
        quality=latest.quality,
        points=points,
    )


TREND_READINGS: Final = 4000


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """Columns of one length: times (corrected, ms), and a value or None for each parameter."""

    times: list[int]
    columns: dict[Parameter, list[float | None]]


def trend(sheets: Sheets, subject: str, since_ms: int) -> Trend:
    """The newest readings of a subject since a time, oldest first."""
    found = sheets.find(
        Reading, owner=subject, since_ms=since_ms, limit=TREND_READINGS, newest=True
    )[::-1]
    columns: dict[Parameter, list[float | None]] = {
        each: [None] * len(found) for each in ORDER if not MEANING[each].codes
    }
    for at, reading in enumerate(found):
        for measurement in reading.body.measurements:
            if measurement.parameter in columns:
                columns[measurement.parameter][at] = measurement.value
    return Trend(times=[reading.body.corrected_ms for reading in found], columns=columns)
