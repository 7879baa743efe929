"""A device's minute as it is kept: one sheet, where single readings would be sixty.

Beside the samples lies an outline, the rows at which a parameter is highest or lowest, from which
a chart of many hours is drawn without opening each of them.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import ClassVar, Final, NamedTuple

from . import series
from .series import MAX_SPAN_MS, VitalsSeries
from .sheets import Index, Sheet, Sheets
from .vitals import (
    Parameter,
    Reading,
    Vitals,
    VitalsReading,
    Wearers,
    folded,
    readings_of_device,
    remember_wearer,
)

STREAM_GAP_MS: Final = 10_000
"""A device whose readings are further apart than this does not stream: they come singly."""


class Row(NamedTuple):
    """What was said at one time; None where a parameter's line ends: it failed, or went away."""

    at_ms: int
    values: dict[Parameter, float | None]


class Minute(Sheet, frozen=True, kw_only=True):
    """The readings of a ``vitals.series`` as they stand now; all of them are one subject's."""

    SHEET: ClassVar[str] = "minute"

    id: str
    node: str
    patient_id: str
    from_ms: int
    """Corrected time of the first reading, and of the last."""
    to_ms: int
    outline: tuple[Row, ...]
    body: VitalsSeries

    def index(self) -> Index:
        """By subject and when it begins."""
        state = "assigned" if self.patient_id else "unassigned"
        return Index(self.id, self.subject, state, self.from_ms)

    @property
    def subject(self) -> str:
        """Whose state it tells: the patient's, or that of whoever wears the device."""
        return self.patient_id or self.body.device.hex()

    def readings(self) -> list[Reading]:
        """Each as if it had come by itself."""
        found = series.readings(bytes.fromhex(self.id), self.body, seen_before=True)
        return [
            Reading(id=name, node=self.node, patient_id=self.patient_id, body=body)
            for name, body in found
        ]

    def rows(self) -> list[Row]:
        """All that a chart shows, gaps with it."""
        return stream_rows(reading.body for reading in self.readings())


def row(body: VitalsReading) -> Row:
    """A reading's numbers, and what it says that there is no number of."""
    return Row(
        body.corrected_ms,
        {each.parameter: each.value for each in body.measurements if not each.code},
    )


def pause(after: Row) -> Row:
    """The lines of this row end with it."""
    return Row(after.at_ms + 1, dict.fromkeys(after.values))


def stream_rows(found: Iterable[VitalsReading]) -> list[Row]:
    """Readings of one stream as rows, in time's order; where it paused there is a gap."""
    plain = sorted(map(row, found), key=lambda row: row.at_ms)
    made = plain[:1]
    for before, after in pairwise(plain):
        if after.at_ms - before.at_ms > STREAM_GAP_MS:
            made.append(pause(before))
        made.append(after)
    return made


def outline(found: Sequence[Row]) -> list[Row]:
    """The rows at which a value is the highest or the lowest, the ends, and where a line ends."""
    low: dict[Parameter, tuple[float, int]] = {}
    high: dict[Parameter, tuple[float, int]] = {}
    kept = {0, len(found) - 1} if found else set()
    ended: set[Parameter] = set()
    for at, (_, values) in enumerate(found):
        for parameter, value in values.items():
            if value is None:
                kept |= set() if parameter in ended else {at}
                ended.add(parameter)
                continue
            ended.discard(parameter)
            low[parameter] = min(low.get(parameter, (value, at)), (value, at))
            high[parameter] = max(high.get(parameter, (value, -at)), (value, -at))
    kept |= {at for _, at in low.values()} | {-at for _, at in high.values()}
    return [found[at] for at in sorted(kept)]


def minute(identity: str, readings: Sequence[Reading], body: VitalsSeries) -> Minute:
    """The sheet of a series; its readings, which are all one subject's, are these."""
    times = [reading.body.corrected_ms for reading in readings]
    return Minute(
        id=identity,
        node=readings[0].node,
        patient_id=readings[0].patient_id,
        from_ms=min(times),
        to_ms=max(times),
        outline=tuple(outline(stream_rows(reading.body for reading in readings))),
        body=body,
    )


def put_minute(sheets: Sheets, found: Minute) -> None:
    """Keep it, new or given to somebody else, where ``minutes_of_device`` looks."""
    sheets.put(found)
    if found.body.device:
        remember_wearer(sheets, found.body.device.hex(), found.subject)


def minutes_of(sheets: Sheets, subject: str, since_ms: int, limit: int = 10_000) -> list[Minute]:
    """A subject's minutes that may hold something since a time, the newest ``limit``; in order."""
    found = sheets.find(
        Minute, owner=subject, since_ms=since_ms - MAX_SPAN_MS, limit=limit, newest=True
    )
    return [each for each in reversed(found) if each.to_ms >= since_ms]


_PAGE: Final = 1000


def minutes_of_device(
    sheets: Sheets, node: str, device: str, from_ms: int, to_ms: int
) -> list[Minute]:
    """Minutes of a clinic's device with anything in the half-open span, by corrected time."""
    known = sheets.get(Wearers, device)
    found: dict[str, Minute] = {}
    for subject in known.subjects if known else ():
        since, fresh = from_ms - MAX_SPAN_MS, True
        while fresh and since < to_ms:
            page = sheets.find(Minute, owner=subject, since_ms=since, limit=_PAGE)
            fresh = len(page) == _PAGE and page[-1].from_ms > since
            since = page[-1].from_ms if page else since
            found |= {each.id: each for each in page}
    return [
        each
        for each in found.values()
        if (each.node, each.body.device.hex()) == (node, device)
        and each.from_ms < to_ms
        and each.to_ms >= from_ms
    ]


def fold_all(sheets: Sheets, subject: str, readings: Iterable[Reading]) -> None:
    """A subject's present state after more readings."""
    state = sheets.get(Vitals, subject) or Vitals(subject=subject)
    for reading in readings:
        state = folded(state, reading)
    sheets.put(state)


REBUILD_READINGS: Final = 2000
REBUILD_MINUTES: Final = 240
"""The newest ones that a present state is made from anew: four hours of a stream, in which no value
is too old to count."""


def rebuild(sheets: Sheets, subject: str) -> None:
    """Make a subject's present state anew, after readings were given to it or taken away."""
    singly = sheets.find(Reading, owner=subject, limit=REBUILD_READINGS, newest=True)
    streamed = sheets.find(Minute, owner=subject, limit=REBUILD_MINUTES, newest=True)
    sheets.put(Vitals(subject=subject))
    fold_all(sheets, subject, singly)
    for each in streamed:
        fold_all(sheets, subject, each.readings())


def waiting_of_device(
    sheets: Sheets, node: str, device: str, from_ms: int, to_ms: int
) -> list[int]:
    """When a clinic's device said in the half-open span what is nobody's; a minute by its ends."""
    singly = readings_of_device(sheets, node, device, from_ms, to_ms)
    streamed = minutes_of_device(sheets, node, device, from_ms, to_ms)
    found = {each.body.corrected_ms for each in singly if not each.patient_id}
    for each in streamed:
        found |= set() if each.patient_id else {each.from_ms, each.to_ms}
    return sorted(found)
