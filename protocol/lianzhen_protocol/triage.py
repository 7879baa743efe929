"""Triage: a suggestion with its reasons, and what a named clinician made of it (docs/triage.md).

A suggestion says what it saw (which readings, how old), what NEWS2 and the learned score made of
it, which level the acuity table asks for and why. It is a suggestion and not a diagnosis: only a
person's decision counts further on. Triage never starts a consultation, it may propose a draft.
"""

import enum
from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec

from . import acuity, news2
from .acuity import Acuity, Case, Level, Table
from .errors import RecordError, VitalsError
from .news2 import Consciousness, Exempt, News2, Scale, Sign
from .records import Body, Milliseconds
from .sheets import Index, Sheet, Sheets
from .vitals import MEANING, Latest, Parameter, Vitals

STREAM: Final = "record.triage"
REPEAT_MS: Final = 3_600_000
"""A suggestion that says nothing new is made again after this long."""
MAX_WHY: Final = 400


class Clinician(msgspec.Struct, frozen=True, kw_only=True):
    """A named person: account id and name."""

    account: str
    name: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A sign and what it added; ``why`` there is no value, where there was one that does not count.

    ``points`` is None where they are not known, or where nobody scored.
    """

    sign: Sign
    value: str
    at_ms: int
    points: int | None
    why: str


class Cause(enum.StrEnum):
    """What a suggestion was made for."""

    VITALS = "vitals"
    REQUEST = "request"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A value that the suggestion rests on. ``value`` is a number's text or an ACVPU letter."""

    sign: Sign
    value: str
    at_ms: Milliseconds
    reading_id: str


class Unused(msgspec.Struct, frozen=True, kw_only=True):
    """A sign that there was, and why it does not count: ``stale``, ``failing``, ``impossible``."""

    sign: Sign
    why: str
    at_ms: Milliseconds


class Abstained(enum.StrEnum):
    """Why the learned score says nothing."""

    UNDER_16 = "under-16"
    PREGNANT = "pregnant"
    AGE_UNKNOWN = "age-unknown"
    SIGN_MISSING = "sign-missing"
    TOO_FEW_SIGNS = "too-few-signs"
    OUT_OF_RANGE = "out-of-range"
    MODEL_REFUSED = "model-refused"
    """The model's file is not the one that was released, or it fails its golden vectors."""
    MODEL_AWAY = "model-away"
    """The triage process is not there, or did not answer in time."""


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """One reason to abstain. ``about``: the input it is about, if it is about one."""

    code: Abstained
    about: str = ""


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """What one input added to the log-odds; ``value`` as in ``Seen``, or years of age."""

    input: str
    value: str
    log_odds: float


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The learned score: a calibrated probability or why there is none, never both."""

    model: str = ""
    """Name and version; "" where no process answered."""
    sha256: str = ""
    probability: float | None = None
    threshold: float | None = None
    factors: tuple[Factor, ...] = ()
    """The greatest first."""
    silence: tuple[Silence, ...] = ()

    @property
    def raised(self) -> bool:
        """At its threshold, or above it."""
        if self.probability is None or self.threshold is None:
            return False
        return self.probability >= self.threshold

    @property
    def away(self) -> bool:
        """Nobody answered: worth asking again with the same signs, as no other silence is."""
        return any(each.code is Abstained.MODEL_AWAY for each in self.silence)


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What of the patient matters here."""

    patient_id: str
    age_years: int | None
    pregnant: bool | None
    scale: Scale = 1


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """A set of signs, and where it came from."""

    vitals: news2.Vitals
    seen: tuple[Seen, ...]
    unused: tuple[Unused, ...]


# -- records


class SpO2ScaleSet(Body, frozen=True):
    """A clinician chose the SpO2 scale of a patient; scale 2 is never a default."""

    patient_id: str
    scale: Scale
    by: Clinician
    why: str
    at_ms: Milliseconds


class TriageSuggested(Body, frozen=True):
    """What triage suggests, with everything that it rests on."""

    suggestion_id: str
    patient_id: str
    at_ms: Milliseconds
    cause: Cause
    asked_by: Clinician | None = None
    age_years: int | None = None
    pregnant: bool | None = None
    seen: tuple[Seen, ...] = ()
    unused: tuple[Unused, ...] = ()
    exempt: Exempt | None = None
    """Why there is no score; then ``news2``, ``forecast`` and ``acuity`` are None."""
    news2: News2 | None = None
    forecast: Forecast | None = None
    acuity: Acuity | None = None

    @property
    def level(self) -> Level | None:
        """The suggested level, where there is one."""
        return self.acuity.level if self.acuity else None

    def lines(self) -> list["Line"]:
        """Every sign of NEWS2, in its order, as a page shows it."""
        seen = {found.sign: found for found in self.seen}
        unused = {found.sign: found for found in self.unused}
        points = {part.sign: part.points for part in self.news2.parts} if self.news2 else {}
        return [
            Line(
                sign=sign,
                value=seen[sign].value if sign in seen else "",
                at_ms=seen[sign].at_ms if sign in seen else 0,
                points=points.get(sign),
                why=unused[sign].why if sign in unused else "",
            )
            for sign in Sign
        ]


class Verdict(enum.StrEnum):
    """What a clinician made of a suggestion."""

    ACCEPTED = "accepted"
    OVERRIDDEN = "overridden"


class TriageDecided(Body, frozen=True):
    """A named clinician's level. ``why`` is needed to override."""

    suggestion_id: str
    patient_id: str
    verdict: Verdict
    level: Level
    by: Clinician
    at_ms: Milliseconds
    why: str = ""
    decision_id: str = ""
    """The record's own id: what became of it is asked by this."""


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "triage.scale_set": {1: SpO2ScaleSet},
    "triage.suggested": {1: TriageSuggested},
    "triage.decided": {1: TriageDecided},
}


# -- sheets

SUGGESTED: Final = "suggested"
SUPERSEDED: Final = "superseded"


class SpO2Scale(Sheet, frozen=True, kw_only=True):
    """The SpO2 scale of one patient, as the last clinician set it."""

    SHEET: ClassVar[str] = "spo2-scale"

    said: SpO2ScaleSet

    def index(self) -> Index:
        """By patient."""
        return Index(self.said.patient_id, self.said.patient_id, "", self.said.at_ms)


class TriageSuggestion(Sheet, frozen=True, kw_only=True):
    """A suggestion and its decision; ``superseded`` where a newer one came before any."""

    SHEET: ClassVar[str] = "triage"

    suggested: TriageSuggested
    decided: TriageDecided | None = None
    superseded: bool = False

    @property
    def state(self) -> str:
        """suggested, accepted, overridden or superseded."""
        if self.decided is not None:
            return str(self.decided.verdict)
        return SUPERSEDED if self.superseded else SUGGESTED

    def index(self) -> Index:
        """By suggestion; the patient owns it."""
        said = self.suggested
        return Index(said.suggestion_id, said.patient_id, self.state, said.at_ms)


def newest(sheets: Sheets, patient_id: str) -> TriageSuggestion | None:
    """The last suggestion that was made for a patient."""
    found = sheets.find(TriageSuggestion, owner=patient_id, limit=1, newest=True)
    return found[0] if found else None


def accepted_level(sheets: Sheets, patient_id: str) -> TriageDecided | None:
    """What a clinician last decided for a patient: only this counts further on."""
    found = sheets.find(TriageSuggestion, owner=patient_id, newest=True)
    decided = [sheet.decided for sheet in found if sheet.decided is not None]
    return max(decided, key=lambda decision: decision.at_ms, default=None)


def scale_of(sheets: Sheets, patient_id: str) -> Scale:
    """The SpO2 scale that a clinician set, else 1."""
    found = sheets.get(SpO2Scale, patient_id)
    return found.said.scale if found else 1


# -- what records mean, the same on both sides


def apply(sheets: Sheets, body: Body) -> None:
    """Any record of triage; RecordError, with its code, for one that cannot be."""
    match body:
        case SpO2ScaleSet():
            apply_scale(sheets, body)
        case TriageSuggested():
            apply_suggestion(sheets, body)
        case TriageDecided():
            apply_decision(sheets, body)
        case _:
            raise RecordError("not a record of triage", code="record-misplaced")


def apply_scale(sheets: Sheets, body: SpO2ScaleSet) -> None:
    """RecordError without a name and a reason."""
    if not body.by.account or not body.why.strip():
        raise RecordError("an SpO2 scale is set by a named person, with a reason", code="unnamed")
    before = sheets.get(SpO2Scale, body.patient_id)
    if before is None or before.said.at_ms <= body.at_ms:
        sheets.put(SpO2Scale(said=body))


def apply_suggestion(sheets: Sheets, body: TriageSuggested) -> None:
    """The newest waits for a decision; what waited before it is superseded."""
    if sheets.get(TriageSuggestion, body.suggestion_id) is not None:
        return
    for older in sheets.find(TriageSuggestion, owner=body.patient_id, state=SUGGESTED):
        sheets.put(msgspec.structs.replace(older, superseded=True))
    sheets.put(TriageSuggestion(suggested=body))


def apply_decision(sheets: Sheets, body: TriageDecided) -> None:
    """RecordError for what nobody could have decided on the page."""
    sheet = sheets.get(TriageSuggestion, body.suggestion_id)
    if sheet is None or sheet.suggested.patient_id != body.patient_id:
        raise RecordError("there is no such suggestion for this patient", code="triage-unknown")
    if sheet.decided == body:
        return
    if sheet.state != SUGGESTED:
        raise RecordError(
            "this suggestion is decided already, or a newer one replaced it: look at the newest",
            code="triage-decided",
        )
    if not body.by.account:
        raise RecordError("a decision is a named person's", code="unnamed")
    if body.verdict is Verdict.ACCEPTED and body.level is not sheet.suggested.level:
        raise RecordError("this is not the level that was suggested", code="triage-level")
    if body.verdict is Verdict.OVERRIDDEN and not 0 < len(body.why.strip()) <= MAX_WHY:
        raise RecordError(
            f"to override needs a reason, of at most {MAX_WHY} letters", code="triage-why"
        )
    sheets.put(msgspec.structs.replace(sheet, decided=body))


# -- making a suggestion

_PARAMETER: Final = {sign: Parameter(sign) for sign in Sign}


def observe(state: Vitals | None, now_ms: int) -> Observed:
    """The signs that speak for the present, and those that there are but do not."""
    latest: Mapping[Parameter, Latest] = state.latest if state else {}
    seen, unused, signs = [], [], news2.Vitals()
    for sign, parameter in _PARAMETER.items():
        found = latest.get(parameter)
        if found is None or not found.at_ms:
            continue
        why = "" if now_ms - found.at_ms <= MEANING[parameter].holds_ms else "stale"
        why = why or ("failing" if found.failing else "")
        if not why:
            try:
                signs = msgspec.structs.replace(signs, **{sign: _value(sign, found)})
            except (VitalsError, ValueError):
                why = "impossible"
        if why:
            unused.append(Unused(sign=sign, why=why, at_ms=found.at_ms))
        else:
            text = found.code or f"{found.value:g}"
            seen.append(Seen(sign=sign, value=text, at_ms=found.at_ms, reading_id=found.reading_id))
    return Observed(vitals=signs, seen=tuple(seen), unused=tuple(unused))


def _value(sign: Sign, found: Latest) -> float | bool | Consciousness:
    if sign is Sign.CONSCIOUSNESS:
        return Consciousness(found.code)
    if found.value is None:
        raise ValueError("no number")
    return found.value > 0 if sign is Sign.OXYGEN else found.value


def suggest(
    subject: Subject,
    observed: Observed,
    forecast: Forecast | None,
    table: Table,
    *,
    suggestion_id: str,
    at_ms: int,
    asked_by: Clinician | None = None,
) -> TriageSuggested:
    """A suggestion. ``forecast`` is None only for whom ``news2.exempt`` takes out."""
    exempt = news2.exempt(subject.age_years, subject.pregnant)
    score = None if exempt else news2.score(observed.vitals, subject.scale)
    raised = forecast is not None and forecast.raised
    level = (
        acuity.assess(table, Case(vitals=observed.vitals, score=score, raised=raised))
        if score
        else None
    )
    return TriageSuggested(
        suggestion_id=suggestion_id,
        patient_id=subject.patient_id,
        at_ms=at_ms,
        cause=Cause.REQUEST if asked_by else Cause.VITALS,
        asked_by=asked_by,
        age_years=subject.age_years,
        pregnant=subject.pregnant,
        seen=observed.seen,
        unused=observed.unused,
        exempt=exempt,
        news2=score,
        forecast=None if exempt else forecast,
        acuity=level,
    )


def says_more(new: TriageSuggested, old: TriageSuggested) -> bool:
    """Whether ``new`` is worth a record: it differs in what it says, or the old one is old."""
    return new.at_ms - old.at_ms >= REPEAT_MS or _said(new) != _said(old)


def _said(body: TriageSuggested) -> tuple[object, ...]:
    level, score, forecast = body.acuity, body.news2, body.forecast
    return (
        body.exempt,
        level and (level.level, [reason.code for reason in level.reasons]),
        score and (score.risk, score.missing, score.red),
        forecast and (forecast.raised, forecast.silence),
    )


def proposes_draft(level: Level | None) -> bool:
    """Whether this level should have a consultation's draft made; a doctor submits it, or not."""
    return level is not None and level <= Level.URGENT
