"""What stands at a bedside: the newest values with their age, NEWS2 with its parts, a trend.

Made from sheets alone, so that the clinic and the expert see the same.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from . import alarms, news2
from .alarms import Alarm, AlarmState
from .minutes import STREAM_GAP_MS, Row, minutes_of, outline, pause, row
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


TREND_ROWS: Final = 4000
_FINE_MINUTES: Final = 60
"""The newest minutes of a stream, of which a chart shows each second."""

_BUCKET_ROWS: Final = 2 * len(ORDER) + 2
"""At most, of an outline without gaps."""


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """Columns of one length: times (corrected, ms), and a value or None for each parameter.

    None says nothing, but at the rows of ``ends``: there a parameter's line ends, as its sensor
    failed or its device went away.
    """

    times: list[int]
    columns: dict[Parameter, list[float | None]]
    ends: dict[Parameter, list[int]]


class _Stretch(NamedTuple):
    """Rows that belong together: of one reading, or of a device's minute."""

    from_ms: int
    to_ms: int
    device: str
    rows: tuple[Row, ...]


def trend(sheets: Sheets, subject: str, since_ms: int) -> Trend:
    """A subject's readings since a time, oldest first; of many, the highest and the lowest."""
    found = [row for row in _rows(_stretches(sheets, subject, since_ms)) if row.at_ms >= since_ms]
    if len(found) > TREND_ROWS:
        size = -(-len(found) * _BUCKET_ROWS // TREND_ROWS)
        buckets = (found[at : at + size] for at in range(0, len(found), size))
        found = [row for bucket in buckets for row in outline(bucket)]
    shown = [each for each in ORDER if not MEANING[each].codes]
    return Trend(
        times=[row.at_ms for row in found],
        columns={each: [row.values.get(each) for row in found] for each in shown},
        ends={
            each: [n for n, row in enumerate(found) if row.values.get(each, 0) is None]
            for each in shown
        },
    )


def _stretches(sheets: Sheets, subject: str, since_ms: int) -> list[_Stretch]:
    singly = sheets.find(Reading, owner=subject, since_ms=since_ms, limit=TREND_ROWS, newest=True)
    streamed = minutes_of(sheets, subject, since_ms)
    found = [
        _Stretch(at := each.body.corrected_ms, at, each.body.device_id, (row(each.body),))
        for each in singly
    ]
    for number, each in enumerate(reversed(streamed)):
        rows = each.rows() if number < _FINE_MINUTES else each.outline
        device = each.body.device.hex()
        found.append(_Stretch(each.from_ms, each.to_ms, device, tuple(rows)))
    return sorted(found, key=lambda one: (one.from_ms, one.to_ms))


def _rows(found: Iterable[_Stretch]) -> list[Row]:
    """In time's order; a device that streamed, and then said nothing for a while, leaves a gap."""
    last: dict[str, _Stretch] = {}
    made: list[Row] = []
    for stretch in found:
        before = last.get(stretch.device)
        late = before is not None and stretch.from_ms - before.to_ms > STREAM_GAP_MS
        if before is not None and late and before.to_ms > before.from_ms:
            made.append(pause(before.rows[-1]))
        last[stretch.device] = stretch
        made += stretch.rows
    return sorted(made, key=lambda row: row.at_ms)
