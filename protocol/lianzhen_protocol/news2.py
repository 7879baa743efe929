"""NEWS2: the National Early Warning Score, second version, as a table and one function.

Source: Royal College of Physicians, "National Early Warning Score (NEWS) 2: Standardising the
assessment of acute-illness severity in the NHS", London, December 2017 (acknowledged as its
licence asks). It is made for adults: ``exempt`` says who is not scored.

What was not measured is never 0 points. A score with a gap has no total, only the least and the
most that it can be, and a red sign in it is a red sign all the same.
"""

import enum
import math
from typing import Annotated, Final, Literal

import msgspec

from .errors import VitalsError

SOURCE: Final = "Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017"
ADULT_YEARS: Final = 16


class Sign(enum.StrEnum):
    """The seven things that NEWS2 looks at, in the order of its chart."""

    RESPIRATION = "respiration"
    SPO2 = "spo2"
    OXYGEN = "oxygen"
    SYSTOLIC = "systolic"
    PULSE = "pulse"
    CONSCIOUSNESS = "consciousness"
    TEMPERATURE = "temperature"


class Consciousness(enum.StrEnum):
    """ACVPU; C is confusion that is new."""

    ALERT = "A"
    CONFUSION = "C"
    VOICE = "V"
    PAIN = "P"
    UNRESPONSIVE = "U"


class Risk(enum.StrEnum):
    """What the score asks for: LOW_MEDIUM is a total below 5 with a single sign of 3 points."""

    LOW = "low"
    LOW_MEDIUM = "low-medium"
    MEDIUM = "medium"
    HIGH = "high"


Scale = Literal[1, 2]
"""Of SpO2. 2 is for hypercapnic respiratory failure (target 88-92 %), set by a clinician."""

Points = Annotated[int, msgspec.Meta(ge=0, le=3)]

PHYSICAL: Final[dict[Sign, tuple[float, float]]] = {
    Sign.RESPIRATION: (0, 120),
    Sign.SPO2: (0, 100),
    Sign.SYSTOLIC: (0, 350),
    Sign.PULSE: (0, 400),
    Sign.TEMPERATURE: (10, 50),
}
"""What a body can show at all; anything else is a fault of the device or of the typing hand."""


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """One set of signs; None is "not measured". VitalsError for a number that no body shows."""

    respiration: float | None = None
    """Breaths a minute."""
    spo2: float | None = None
    """Per cent."""
    oxygen: bool | None = None
    """Whether the patient breathes more than air."""
    systolic: float | None = None
    """mmHg."""
    pulse: float | None = None
    """Beats a minute."""
    consciousness: Consciousness | None = None
    temperature: float | None = None
    """Degrees Celsius."""

    def __post_init__(self) -> None:
        for sign, (low, high) in PHYSICAL.items():
            value = getattr(self, sign)
            if value is not None and not low <= value <= high:
                raise VitalsError(f"{sign} {value} is outside {low:g} to {high:g}: measure again")


class Part(msgspec.Struct, frozen=True):
    """What one sign adds. None: it, or the oxygen that its points hang on, is not known."""

    sign: Sign
    points: Points | None


class News2(msgspec.Struct, frozen=True, kw_only=True):
    """A score. ``total`` is None as long as anything in ``missing`` is."""

    total: int | None
    at_least: int
    at_most: int
    red: bool
    """A single sign has 3 points."""
    risk: Risk
    """Of an incomplete score: this, or more."""
    scale: Scale
    parts: tuple[Part, ...]
    missing: tuple[Sign, ...]

    @property
    def complete(self) -> bool:
        """Whether every sign was known."""
        return self.total is not None


# --- the chart ---

Chart = tuple[tuple[float, Points], ...]
"""(up to and including, points), rising; the last has no upper end."""

REST: Final = math.inf
RESPIRATION: Final[Chart] = ((8, 3), (11, 1), (20, 0), (24, 2), (REST, 3))
SPO2_SCALE_1: Final[Chart] = ((91, 3), (93, 2), (95, 1), (REST, 0))
SPO2_SCALE_2_AIR: Final[Chart] = ((83, 3), (85, 2), (87, 1), (REST, 0))
SPO2_SCALE_2_OXYGEN: Final[Chart] = (
    *((83, 3), (85, 2), (87, 1)),
    *((92, 0), (94, 1), (96, 2), (REST, 3)),
)
SYSTOLIC: Final[Chart] = ((90, 3), (100, 2), (110, 1), (219, 0), (REST, 3))
PULSE: Final[Chart] = ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (REST, 3))
TEMPERATURE: Final[Chart] = ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), (REST, 2))
OXYGEN_POINTS: Final = 2
NOT_ALERT_POINTS: Final = 3
WORST: Final = {sign: OXYGEN_POINTS if sign is Sign.OXYGEN else 3 for sign in Sign}
MEDIUM_TOTAL: Final = 5
HIGH_TOTAL: Final = 7


def _read(chart: Chart, value: float | None, digits: int = 0) -> Points | None:
    """Points of a value, rounded to the step of the chart."""
    if value is None:
        return None
    step = round(value, digits)
    return next(points for upper, points in chart if step <= upper)


def _spo2(vitals: Vitals, scale: Scale) -> Points | None:
    if scale == 1:
        return _read(SPO2_SCALE_1, vitals.spo2)
    air, oxygen = _read(SPO2_SCALE_2_AIR, vitals.spo2), _read(SPO2_SCALE_2_OXYGEN, vitals.spo2)
    if vitals.oxygen is None:
        return air if air == oxygen else None
    return oxygen if vitals.oxygen else air


def _points(vitals: Vitals, scale: Scale) -> dict[Sign, Points | None]:
    on_oxygen, awake = vitals.oxygen, vitals.consciousness
    return {
        Sign.RESPIRATION: _read(RESPIRATION, vitals.respiration),
        Sign.SPO2: _spo2(vitals, scale),
        Sign.OXYGEN: None if on_oxygen is None else OXYGEN_POINTS * on_oxygen,
        Sign.SYSTOLIC: _read(SYSTOLIC, vitals.systolic),
        Sign.PULSE: _read(PULSE, vitals.pulse),
        Sign.CONSCIOUSNESS: (
            None if awake is None else NOT_ALERT_POINTS * (awake is not Consciousness.ALERT)
        ),
        Sign.TEMPERATURE: _read(TEMPERATURE, vitals.temperature, digits=1),
    }


def score(vitals: Vitals, scale: Scale = 1) -> News2:
    """NEWS2 of one set of signs."""
    points = _points(vitals, scale)
    known = [found for found in points.values() if found is not None]
    unknown = [sign for sign, found in points.items() if found is None]
    at_least, red = sum(known), 3 in known
    return News2(
        total=None if unknown else at_least,
        at_least=at_least,
        at_most=at_least + sum(WORST[sign] for sign in unknown),
        red=red,
        risk=_risk(at_least, red),
        scale=scale,
        parts=tuple(Part(sign, found) for sign, found in points.items()),
        missing=tuple(sign for sign in Sign if getattr(vitals, sign) is None),
    )


def _risk(total: int, red: bool) -> Risk:
    if total >= HIGH_TOTAL:
        return Risk.HIGH
    if total >= MEDIUM_TOTAL:
        return Risk.MEDIUM
    return Risk.LOW_MEDIUM if red else Risk.LOW


class Exempt(enum.StrEnum):
    """Why a patient is not scored."""

    UNDER_16 = "under-16"
    PREGNANT = "pregnant"


def exempt(age_years: int | None, pregnant: bool | None) -> Exempt | None:
    """Why NEWS2 does not hold for this patient, or None where it does.

    An unknown age is scored: a patient without papers may be unconscious and in danger. Whoever
    shows the score then says that it holds from 16 years on.
    """
    if age_years is not None and age_years < ADULT_YEARS:
        return Exempt.UNDER_16
    return Exempt.PREGNANT if pregnant else None
