"""Vital signs: what may be measured, in which unit, and what a reading says (docs/vitals.md).

A value is kept in one UCUM unit for its parameter; other units are converted where they enter.
What a device could not measure is absent with a reason (FHIR data-absent-reason), never 0. Each
reading keeps the device's time, the time it was received and the corrected time between them.
"""

import enum
import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, NamedTuple

import msgspec

from .errors import ReadingError
from .people import By
from .records import Body, Milliseconds
from .sheets import Index, Sheet, Sheets

STREAM: Final = "vitals.readings"


class Parameter(enum.StrEnum):
    """What is measured; the names of NEWS2 where it has one."""

    RESPIRATION = "respiration"
    SPO2 = "spo2"
    OXYGEN = "oxygen"
    """Supplemental oxygen as its flow; 0 is room air."""
    SYSTOLIC = "systolic"
    DIASTOLIC = "diastolic"
    PULSE = "pulse"
    CONSCIOUSNESS = "consciousness"
    TEMPERATURE = "temperature"


class Meaning(NamedTuple):
    """One parameter's row. ``low`` to ``high`` is plausible, in ``unit``; ``why`` says whence.

    ``codes`` is not empty for a parameter that is no number. A value speaks for the patient's
    present state for ``holds_ms``: an hour where NEWS2 of 5 or more asks for hourly sets, four
    hours for what a nurse charts (NEWS2 1 to 4: four to six hours; RCP 2017, table 4).
    """

    loinc: str
    mdc: int
    unit: str
    low: float
    high: float
    holds_ms: int
    why: str
    codes: tuple[str, ...] = ()


_HOUR: Final = 3_600_000
MEANING: Final[Mapping[Parameter, Meaning]] = {
    Parameter.RESPIRATION: Meaning(
        "9279-1", 151562, "/min", 0, 90, _HOUR, "0 is apnoea and counts; newborns reach 80"
    ),
    Parameter.SPO2: Meaning(
        "59408-5", 150456, "%", 30, 100, _HOUR, "oximeters are calibrated from 70 (ISO 80601-2-61)"
    ),
    Parameter.OXYGEN: Meaning(
        "3151-8", 0, "L/min", 0, 80, 4 * _HOUR, "high-flow cannulas end at 60 to 80"
    ),
    Parameter.SYSTOLIC: Meaning(
        "8480-6", 150021, "mm[Hg]", 30, 300, 4 * _HOUR, "cuffs measure 40 to 280 (IEC 80601-2-30)"
    ),
    Parameter.DIASTOLIC: Meaning(
        "8462-4", 150022, "mm[Hg]", 10, 220, 4 * _HOUR, "cuffs measure 20 to 220 (IEC 80601-2-30)"
    ),
    Parameter.PULSE: Meaning(
        "8867-4", 147842, "/min", 20, 300, _HOUR, "an optical sensor's 0 is one that slipped off"
    ),
    Parameter.CONSCIOUSNESS: Meaning(
        "67775-7", 0, "", 0, 0, 4 * _HOUR, "ACVPU of NEWS2 (RCP 2017)", ("A", "C", "V", "P", "U")
    ),
    Parameter.TEMPERATURE: Meaning(
        "8310-5", 150364, "Cel", 20, 45, 4 * _HOUR, "beyond thermometers' 34 to 43 for hypothermia"
    ),
}
"""LOINC and ISO/IEEE 11073-10101 codes, UCUM unit, plausible range; mdc 0: none."""

_KPA: Final = 7.500617
_SAME: Final = (1.0, 0.0)
_CONVERSIONS: Final[Mapping[tuple[str, str], tuple[float, float]]] = {
    ("[degF]", "Cel"): (5 / 9, -160 / 9),
    ("K", "Cel"): (1.0, -273.15),
    ("kPa", "mm[Hg]"): (_KPA, 0.0),
    ("1", "%"): (100.0, 0.0),
    ("1/min", "/min"): _SAME,
    ("Hz", "/min"): (60.0, 0.0),
}
"""(from, to) -> factor and offset; UCUM codes."""

_ANNOTATION: Final = re.compile(r"\{[^{}]*\}")


class Absent(enum.StrEnum):
    """Why there is no value: http://terminology.hl7.org/CodeSystem/data-absent-reason."""

    UNKNOWN = "unknown"
    ASKED_DECLINED = "asked-declined"
    NOT_PERFORMED = "not-performed"
    ERROR = "error"
    """The sensor says that it failed, or what it says cannot be."""
    NOT_A_NUMBER = "not-a-number"
    NEGATIVE_INFINITY = "negative-infinity"
    POSITIVE_INFINITY = "positive-infinity"


class Quality(enum.StrEnum):
    """What the device says of its own signal."""

    GOOD = "good"
    POOR = "poor"


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One parameter: a value in its unit, a code, or why there is neither."""

    parameter: Parameter
    value: float | None = None
    code: str = ""
    absent: Absent | None = None
    quality: Quality = Quality.GOOD


def converted(parameter: Parameter, value: float, unit: str) -> float:
    """``value`` in the parameter's own unit, to one decimal. ReadingError for another unit."""
    meaning = MEANING[parameter]
    plain = _ANNOTATION.sub("", unit)  # UCUM: {beats}/min is /min
    factor, offset = _SAME
    if plain != meaning.unit:
        try:
            factor, offset = _CONVERSIONS[plain, meaning.unit]
        except KeyError:
            others = [source for source, target in _CONVERSIONS if target == meaning.unit]
            raise ReadingError(
                f"{parameter}: unit {unit[:20]!r}; send it in {', '.join([meaning.unit, *others])}",
                code="unit-unknown",
            ) from None
    return round(value * factor + offset, 1)


def measured(
    parameter: Parameter, value: float, unit: str, quality: Quality = Quality.GOOD
) -> Measurement:
    """A number as it entered. ReadingError (``implausible``) for one that no patient has."""
    meaning = MEANING[parameter]
    if meaning.codes:
        raise ReadingError(f"{parameter} is one of {', '.join(meaning.codes)}, not a number")
    found = converted(parameter, value, unit)
    if not meaning.low <= found <= meaning.high:
        raise ReadingError(
            f"{parameter} {found:g} {meaning.unit}: plausible is {meaning.low:g} to "
            f"{meaning.high:g}",
            code="implausible",
        )
    return Measurement(parameter=parameter, value=found, quality=quality)


def coded(parameter: Parameter, code: str) -> Measurement:
    """A code as it entered. ReadingError for one that is not in the parameter's list."""
    codes = MEANING[parameter].codes
    if code not in codes:
        raise ReadingError(f"{parameter}: {code[:20]!r} is not one of {', '.join(codes) or 'none'}")
    return Measurement(parameter=parameter, code=code)


def failed(parameter: Parameter, reason: Absent = Absent.ERROR) -> Measurement:
    """No value, and why."""
    return Measurement(parameter=parameter, absent=reason)


class ClockMark(enum.StrEnum):
    """What is known of the clock behind a reading's time."""

    BOX = "box"
    """Entered at the box, by its own clock."""
    GOOD = "good"
    """Within two seconds of the box."""
    OFFSET = "offset"
    """Wrong by a steady amount, which was taken out."""
    UNSET = "unset"
    """The device's clock was never set (1970, 2000); the offset was taken out all the same."""
    JUMPED = "jumped"
    """The clock was moved since the message before; taken from this message alone."""
    DOUBTFUL = "doubtful"
    """Late, or moved: told by what was known before, until more messages come."""


class VitalsReading(Body, frozen=True, kw_only=True):
    """What one device or one person said of one patient at one time.

    ``device_ms`` and ``sent_ms`` are by the device's clock, ``received_ms`` and ``corrected_ms``
    by the box's. ``patient_id`` is "" where nobody had bound the device.
    """

    patient_id: str
    device_id: str = ""
    message_id: str = ""
    measurements: tuple[Measurement, ...]
    device_ms: int
    sent_ms: int
    received_ms: Milliseconds
    corrected_ms: Milliseconds
    offset_ms: int = 0
    clock: ClockMark = ClockMark.BOX
    entered_by: By | None = None
    """Who typed it in; None for a device."""


class Reading(Sheet, frozen=True, kw_only=True):
    """A reading as it stands now; ``patient_id`` changes when somebody joins it."""

    SHEET: ClassVar[str] = "reading"

    id: str
    node: str
    """The clinic whose box wrote it."""
    patient_id: str
    body: VitalsReading

    def index(self) -> Index:
        """By subject and corrected time."""
        state = "assigned" if self.patient_id else "unassigned"
        return Index(self.id, self.subject, state, self.body.corrected_ms)

    @property
    def subject(self) -> str:
        """Whose state it tells: the patient's, or that of whoever wears the device."""
        return self.patient_id or self.body.device_id


class Latest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest value of one parameter, and the newest time at which there was none."""

    value: float | None = None
    code: str = ""
    quality: Quality = Quality.GOOD
    at_ms: int = 0
    """Corrected time of the value; 0 if there never was one."""
    reading_id: str = ""
    device_id: str = ""
    absent: Absent | None = None
    absent_ms: int = 0

    @property
    def failing(self) -> bool:
        """The device speaks of this parameter, and has no value since."""
        return self.absent is not None and self.absent_ms > self.at_ms


class Vitals(Sheet, frozen=True, kw_only=True):
    """A patient's present state; ``subject`` is the patient, or an unassigned device."""

    SHEET: ClassVar[str] = "vitals"

    subject: str
    latest: dict[Parameter, Latest] = msgspec.field(default_factory=dict)
    heard_ms: int = 0
    """Corrected time of the newest reading."""

    def index(self) -> Index:
        """By its subject."""
        return Index(self.subject, self.subject, "", self.heard_ms)


def folded(state: Vitals, reading: Reading) -> Vitals:
    """``state`` after one more reading; readings may come in any order."""
    body, latest = reading.body, dict(state.latest)
    for found in body.measurements:
        before, at = latest.get(found.parameter, Latest()), body.corrected_ms
        if found.absent is not None:
            if at > before.absent_ms:
                latest[found.parameter] = msgspec.structs.replace(
                    before, absent=found.absent, absent_ms=at
                )
        elif (at, reading.id) > (before.at_ms, before.reading_id):
            latest[found.parameter] = msgspec.structs.replace(
                before,
                value=found.value,
                code=found.code,
                quality=found.quality,
                at_ms=at,
                reading_id=reading.id,
                device_id=body.device_id,
            )
    heard = max(state.heard_ms, body.corrected_ms)
    return Vitals(subject=state.subject, latest=latest, heard_ms=heard)


def state_of(subject: str, readings: Iterable[Reading]) -> Vitals:
    """What readings come to, in whatever order."""
    state = Vitals(subject=subject)
    for reading in readings:
        state = folded(state, reading)
    return state


class Wearers(Sheet, frozen=True, kw_only=True):
    """With whom a device's readings lie, or once lay: where to look for them."""

    SHEET: ClassVar[str] = "wearers"

    device_id: str
    subjects: tuple[str, ...]

    def index(self) -> Index:
        """By the device."""
        return Index(self.device_id)


def put_reading(sheets: Sheets, reading: Reading) -> None:
    """Keep a reading, new or given to somebody else, where ``readings_of_device`` looks."""
    sheets.put(reading)
    if reading.body.device_id:
        remember_wearer(sheets, reading.body.device_id, reading.subject)


def remember_wearer(sheets: Sheets, device: str, subject: str) -> None:
    """Something of this device lies with that subject."""
    known = sheets.get(Wearers, device) or Wearers(device_id=device, subjects=())
    if subject not in known.subjects:
        sheets.put(Wearers(device_id=device, subjects=(*known.subjects, subject)))


def keep_reading(sheets: Sheets, reading: Reading) -> None:
    """Keep a new reading; its subject's present state follows."""
    put_reading(sheets, reading)
    subject = reading.subject
    sheets.put(folded(sheets.get(Vitals, subject) or Vitals(subject=subject), reading))


_PAGE: Final = 1000


def readings_of_device(
    sheets: Sheets, node: str, device: str, from_ms: int, to_ms: int
) -> list[Reading]:
    """What a clinic's device said in the half-open span, by corrected time."""
    known = sheets.get(Wearers, device)
    found: dict[str, Reading] = {}
    for subject in known.subjects if known else ():
        since, fresh = from_ms, True
        while fresh and since < to_ms:
            page = sheets.find(Reading, owner=subject, since_ms=since, limit=_PAGE)
            fresh = len(page) == _PAGE and page[-1].body.corrected_ms > since
            since = page[-1].body.corrected_ms if page else since
            found |= {reading.id: reading for reading in page}
    return [
        reading
        for reading in found.values()
        if (reading.node, reading.body.device_id) == (node, device)
        and from_ms <= reading.body.corrected_ms < to_ms
    ]


KINDS: Final[dict[str, dict[int, type[Body]]]] = {"vitals.reading": {1: VitalsReading}}
