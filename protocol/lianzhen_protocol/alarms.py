"""Alarms: when one rings, when it rings again, and when it may end (docs/vitals.md).

NEWS2 of 5 or more, or any single sign of 3 points, is urgent; 7 or more is an emergency (RCP
2017). An alarm is latched: it rings until a named person acknowledges it, also when the danger
has passed meanwhile. The same danger does not ring twice; a greater one, or another red sign,
does. Missing data are an alarm of their own, of the lowest priority.
"""

import enum
from typing import ClassVar, Final, NamedTuple

import msgspec

from . import news2, triage
from .errors import RecordError
from .people import By, Patient, china_day
from .records import Body, Milliseconds
from .sheets import Index, Sheet, Sheets
from .vitals import Vitals

STREAM: Final = "alarm.clinic"

EASE_MS: Final = 5 * 60_000
"""How long a danger must be less before its alarm is: values that flutter ring once."""

SILENT_MS: Final = 10 * 60_000
"""A device on a patient that has had no value for so long is missed."""

TOTAL: Final = "total"
"""The cause of an alarm that no single sign explains: the sum."""


class Severity(enum.StrEnum):
    """In rising order; low, medium and high priority of IEC 60601-1-8."""

    TECHNICAL = "technical"
    """Nobody knows: the device is silent, or the box is full."""
    URGENT = "urgent"
    """A clinician within the hour."""
    EMERGENCY = "emergency"
    """A team within 30 minutes."""

    @property
    def rank(self) -> int:
        """For comparing."""
        return list(Severity).index(self)


class Condition(enum.StrEnum):
    """What is watched; one alarm at a time for each, patient by patient, device by device."""

    NEWS2 = "news2"
    SILENT = "silent"
    STORAGE = "storage"
    """The box itself: what it should keep, it must refuse. Of no patient and no device."""


class EndReason(enum.StrEnum):
    """Why an alarm ended; OVER and NO_VALUES come after the acknowledgement only."""

    OVER = "over"
    NO_VALUES = "no-values"
    """Nothing is known any more; the alarm of silence takes its place."""
    REPLACED = "replaced"
    """By a graver one."""
    REMOVED = "removed"
    """The device was taken off the patient, or shut out."""


class AlarmRaised(Body, frozen=True, kw_only=True):
    """Its record's id is the alarm's. ``measured_ms`` is the corrected time of what it rests on."""

    condition: Condition
    severity: Severity
    causes: tuple[str, ...]
    patient_id: str
    device_id: str = ""
    reading_id: str = ""
    at_least: int = 0
    """NEWS2, as far as it was known."""
    missing: tuple[str, ...] = ()
    measured_ms: Milliseconds
    raised_ms: Milliseconds
    replaces: str = ""


class AlarmAcknowledged(Body, frozen=True, kw_only=True):
    """A named person has heard it."""

    alarm_id: str
    by: By
    note: str = ""
    at_ms: Milliseconds


class AlarmLowered(Body, frozen=True, kw_only=True):
    """The danger is less, and has been for a while."""

    alarm_id: str
    severity: Severity
    causes: tuple[str, ...]
    at_ms: Milliseconds


class AlarmEnded(Body, frozen=True, kw_only=True):
    """There is no danger any more, or nobody knows."""

    alarm_id: str
    reason: EndReason
    at_ms: Milliseconds


class AlarmState(enum.StrEnum):
    """Of an alarm."""

    RINGING = "ringing"
    ACKNOWLEDGED = "acknowledged"
    ENDED = "ended"


class Alarm(Sheet, frozen=True, kw_only=True):
    """An alarm as it stands."""

    SHEET: ClassVar[str] = "alarm"

    id: str
    condition: Condition
    severity: Severity
    causes: tuple[str, ...]
    patient_id: str
    device_id: str = ""
    reading_id: str = ""
    at_least: int = 0
    missing: tuple[str, ...] = ()
    measured_ms: int
    raised_ms: int
    replaces: str = ""
    acknowledged_by: By | None = None
    acknowledged_ms: int = 0
    note: str = ""
    eased_ms: int = 0
    """Since when the danger is less than this alarm says; 0: it is not. Kept at the box only."""
    node: str = ""
    """The box that raised it, as the hub knows it; "" on the box itself."""
    ended_ms: int = 0
    end_reason: EndReason | None = None

    def index(self) -> Index:
        """By patient (or device), state and time."""
        return Index(self.id, self.subject, self.state, self.raised_ms)

    @property
    def subject(self) -> str:
        """The patient; a device that nobody wears by name."""
        return self.patient_id or self.device_id

    @property
    def state(self) -> AlarmState:
        """Ringing until acknowledged, whatever happened since."""
        if self.ended_ms:
            return AlarmState.ENDED
        return AlarmState.ACKNOWLEDGED if self.acknowledged_ms else AlarmState.RINGING


# --- what is dangerous ---


class Danger(msgspec.Struct, frozen=True):
    """How bad it is now, and why."""

    severity: Severity
    causes: tuple[str, ...]


SILENCE: Final = Danger(Severity.TECHNICAL, (Condition.SILENT,))


class Assessment(NamedTuple):
    """NEWS2 of a subject now, or why it does not hold for them."""

    score: news2.News2 | None
    exempt: news2.Exempt | None


def scored(state: Vitals | None, now_ms: int, scale: news2.Scale = 1) -> news2.News2:
    """NEWS2 of what still speaks for the present; the rest is missing."""
    return news2.score(triage.observe(state, now_ms).vitals, scale)


def assess(sheets: Sheets, subject: str, now_ms: int) -> Assessment:
    """NEWS2 of a patient, or of whoever wears a device that is on nobody by name."""
    patient = sheets.get(Patient, subject)
    if patient is not None:
        age = patient.age_on(china_day(now_ms))
        if (exempt := news2.exempt(age, patient.pregnant)) is not None:
            return Assessment(None, exempt)
    state, scale = sheets.get(Vitals, subject), triage.scale_of(sheets, subject)
    return Assessment(scored(state, now_ms, scale), None)


def danger(score: news2.News2) -> Danger | None:
    """What a score calls for. An incomplete one is at least what it is."""
    causes: list[str] = [part.sign for part in score.parts if part.points == 3]
    if score.at_least >= news2.MEDIUM_TOTAL:
        causes.insert(0, TOTAL)
    if not causes:
        return None
    grave = score.at_least >= news2.HIGH_TOTAL
    return Danger(Severity.EMERGENCY if grave else Severity.URGENT, tuple(causes))


# --- what to do about it ---


class Raise(msgspec.Struct, frozen=True):
    """Ring, with these; the active alarm, if there is one, is replaced."""

    severity: Severity
    causes: tuple[str, ...]


class Lower(msgspec.Struct, frozen=True):
    """Let the active alarm say less."""

    severity: Severity
    causes: tuple[str, ...]


class End(msgspec.Struct, frozen=True):
    """Let the active alarm end."""


class Ease(msgspec.Struct, frozen=True):
    """Note since when it is less; 0: it is as bad again."""

    since_ms: int


Verdict = Raise | Lower | End | Ease | None


def judge(active: Alarm | None, found: Danger | None, now_ms: int) -> Verdict:
    """What to do about the danger ``found`` while ``active`` stands (None: no alarm stands)."""
    if active is None:
        return Raise(found.severity, found.causes) if found else None
    if found is not None:
        fresh = [cause for cause in found.causes if cause not in active.causes]
        if found.severity.rank > active.severity.rank or fresh:
            graver = max(found.severity, active.severity, key=lambda one: one.rank)
            return Raise(graver, (*active.causes, *fresh))
        if found.severity is active.severity:
            return Ease(0) if active.eased_ms else None
    if not active.acknowledged_ms:
        return None  # latched
    if not active.eased_ms:
        return Ease(now_ms)
    if now_ms - active.eased_ms < EASE_MS:
        return None
    return Lower(found.severity, found.causes) if found else End()


def eased(alarm: Alarm, since_ms: int) -> Alarm:
    """The alarm with a note since when it says too much; a thing of the box, and no record."""
    return msgspec.structs.replace(alarm, eased_ms=since_ms)


def silent(heard_ms: int, now_ms: int) -> Danger | None:
    """Whether a device on a patient, whose last value came at ``heard_ms``, is missed."""
    return SILENCE if now_ms - heard_ms >= SILENT_MS else None


def storage(causes: tuple[str, ...]) -> Danger | None:
    """Whether a box is full: ``causes`` say of what."""
    return Danger(Severity.TECHNICAL, causes) if causes else None


def active_alarm(
    sheets: Sheets, condition: Condition, subject: str, device_id: str = ""
) -> Alarm | None:
    """The alarm that stands for a condition; ``device_id`` where each device has its own."""
    for state in (AlarmState.RINGING, AlarmState.ACKNOWLEDGED):
        for alarm in sheets.find(Alarm, owner=subject, state=state):
            if alarm.condition is condition and device_id in ("", alarm.device_id):
                return alarm
    return None


# --- what the records mean, on both sides ---


def take_raised(sheets: Sheets, record_id: str, body: AlarmRaised, node: str = "") -> None:
    """``alarm.raised``: it stands; what it replaces has ended."""
    fields = {name: getattr(body, name) for name in AlarmRaised.__struct_fields__}
    sheets.put(Alarm(id=record_id, node=node, **fields))
    if replaced := sheets.get(Alarm, body.replaces):
        _end(sheets, replaced, EndReason.REPLACED, body.raised_ms)


def take_acknowledged(sheets: Sheets, body: AlarmAcknowledged) -> None:
    """``alarm.acknowledged``: the first one counts."""
    alarm = _known(sheets, body.alarm_id)
    if not alarm.acknowledged_ms:
        sheets.put(
            msgspec.structs.replace(
                alarm,
                acknowledged_by=body.by,
                acknowledged_ms=body.at_ms,
                note=body.note,
            )
        )


def take_lowered(sheets: Sheets, body: AlarmLowered) -> None:
    """``alarm.lowered``."""
    alarm = _known(sheets, body.alarm_id)
    sheets.put(
        msgspec.structs.replace(alarm, severity=body.severity, causes=body.causes, eased_ms=0)
    )


def take_ended(sheets: Sheets, body: AlarmEnded) -> None:
    """``alarm.ended``."""
    _end(sheets, _known(sheets, body.alarm_id), body.reason, body.at_ms)


def _end(sheets: Sheets, alarm: Alarm, reason: EndReason, at_ms: int) -> None:
    if not alarm.ended_ms:
        sheets.put(msgspec.structs.replace(alarm, ended_ms=at_ms, end_reason=reason))


def _known(sheets: Sheets, alarm_id: str) -> Alarm:
    alarm = sheets.get(Alarm, alarm_id)
    if alarm is None:
        raise RecordError("an alarm that was never raised here", code="alarm-unknown")
    return alarm


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "alarm.raised": {1: AlarmRaised},
    "alarm.acknowledged": {1: AlarmAcknowledged},
    "alarm.lowered": {1: AlarmLowered},
    "alarm.ended": {1: AlarmEnded},
}
