"""Which expert to ask: hard filters, each with its reason, then a score that explains itself.

A filter is a matter of law, safety or consent and is never weighed against anything. What passes
all of them is scored in [0, 1]: a weighted mean of four named factors, each in [0, 1], so that the
score never falls when a factor rises. Ties: least load, then longest idle, then the id.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec

from .sheets import Index, Sheet

URGENT_ACUITY: Final = 2
"""Levels 1 and 2 of the four emergency levels (WS/T 390-2012): critical, and severe."""


class Title(enum.StrEnum):
    """The four grades of a doctor's professional title."""

    RESIDENT = "resident"
    ATTENDING = "attending"
    ASSOCIATE_CHIEF = "associate-chief"
    CHIEF = "chief"


class Licence(enum.StrEnum):
    """What the register says of a doctor's licence."""

    VALID = "valid"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class Expert(Sheet, frozen=True, kw_only=True):
    """An expert's profile; ``id`` is the account's. Departments are codes of ``departments``."""

    SHEET: ClassVar[str] = "expert"

    id: str
    name: str
    title: Title
    licence: Licence = Licence.VALID
    licence_number: str = ""
    departments: tuple[str, ...] = ()
    icd: tuple[str, ...] = ()
    """Prefixes of ICD-10 codes that this expert takes; empty: all."""
    own_nodes: tuple[str, ...] = ()
    """Boxes of clinics where this expert works: no second opinion from oneself."""
    on_leave: bool = False
    capacity: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """Open cases at a time."""
    at_ms: int = 0

    def index(self) -> Index:
        """By account."""
        return Index(self.id, state=self.licence, at_ms=self.at_ms)


class Standing(NamedTuple):
    """How an expert is placed now."""

    online: bool = False
    load: int = 0
    """Open cases."""
    idle_since_ms: int = 0
    """When this expert was last asked; 0: never."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What matching needs to know of a consultation."""

    department: str
    node: str
    icd: str = ""
    acuity: int | None = None
    consented: bool = False
    asked: tuple[str, ...] = ()


class Bar(enum.StrEnum):
    """A hard filter, named after what is missing; in the order in which people should read them."""

    CONSENT = "consent"
    LICENCE = "licence"
    DEPARTMENT = "department"
    DIAGNOSIS = "diagnosis"
    CONFLICT = "conflict"
    LEAVE = "leave"
    ASKED = "asked"
    LOAD = "load"
    OFFLINE = "offline"


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a score: ``value`` in [0, 1], and what it weighs."""

    name: str
    value: float
    weight: float


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """An expert who may be asked, the score in [0, 1], and what it is made of."""

    expert: str
    score: float
    factors: tuple[Factor, ...]


class Ranking(NamedTuple):
    """Who may be asked, the best first, and why the others may not."""

    matches: tuple[Match, ...]
    barred: Mapping[str, tuple[Bar, ...]]


WEIGHTS: Final[Mapping[str, float]] = {
    "specialty": 0.30,
    "diagnosis": 0.25,
    "title": 0.15,
    "free": 0.30,
}
URGENT_WEIGHTS: Final[Mapping[str, float]] = {
    "specialty": 0.25,
    "diagnosis": 0.10,
    "title": 0.10,
    "free": 0.55,
}
"""An urgent case goes to whoever is free now; a fine match that is busy helps nobody."""

_TITLES: Final = {title: (place + 1) / len(Title) for place, title in enumerate(Title)}
_UNDECIDED: Final = 0.5
_BROADER: Final = 0.7
"""A request to a whole department is answered by any of its specialties, but not quite as well."""
_ICD_CATEGORY: Final = 3
"""Length of a category such as I10: a prefix that long is as specific as counts."""


def urgent(acuity: int | None) -> bool:
    """Whether a case goes before others."""
    return acuity is not None and acuity <= URGENT_ACUITY


def bars(request: Request, expert: Expert, standing: Standing) -> tuple[Bar, ...]:
    """Every reason why this expert must not be asked; empty if there is none."""
    found = {
        Bar.CONSENT: not request.consented,
        Bar.LICENCE: expert.licence is not Licence.VALID,
        Bar.DEPARTMENT: _specialty(request, expert) == 0.0,
        Bar.DIAGNOSIS: _diagnosis(request, expert) == 0.0,
        Bar.CONFLICT: request.node in expert.own_nodes,
        Bar.LEAVE: expert.on_leave,
        Bar.ASKED: expert.id in request.asked,
        Bar.LOAD: standing.load >= expert.capacity,
        Bar.OFFLINE: not standing.online,
    }
    return tuple(bar for bar, holds in found.items() if holds)


def factors(request: Request, expert: Expert, standing: Standing) -> dict[str, float]:
    """Each factor's value in [0, 1]; higher is better."""
    return {
        "specialty": _specialty(request, expert),
        "diagnosis": _diagnosis(request, expert),
        "title": _TITLES[expert.title],
        "free": max(0.0, 1.0 - standing.load / expert.capacity),
    }


def score(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted mean, in [0, 1] as the values are; to six digits, so that ties are ties."""
    mean = sum(weights[name] * value for name, value in values.items()) / sum(weights.values())
    return min(1.0, max(0.0, round(mean, 6)))


def rank(request: Request, experts: Iterable[tuple[Expert, Standing]]) -> Ranking:
    """Who may be asked, the best first, and why the others may not."""
    weights = URGENT_WEIGHTS if urgent(request.acuity) else WEIGHTS
    barred: dict[str, tuple[Bar, ...]] = {}
    found: list[tuple[tuple[float, int, int, str], Match]] = []
    for expert, standing in experts:
        if reasons := bars(request, expert, standing):
            barred[expert.id] = reasons
            continue
        values = factors(request, expert, standing)
        total = score(values, weights)
        parts = (Factor(name=n, value=round(v, 6), weight=weights[n]) for n, v in values.items())
        match = Match(expert=expert.id, score=total, factors=tuple(parts))
        found.append(((-total, standing.load, standing.idle_since_ms, expert.id), match))
    found.sort(key=lambda each: each[0])
    return Ranking(tuple(match for _, match in found), barred)


def inbox_order(acuity: int | None, pending_ms: int, identity: str) -> tuple[int, int, str]:
    """Sort key of an inbox: the gravest level first, then who waits longest; untriaged as level 3.

    Levels 3 and 4 do not overtake each other: both may wait, and waiting is what counts there.
    """
    level = URGENT_ACUITY + 1 if acuity is None or not urgent(acuity) else acuity
    return (level, pending_ms, identity)


def normal_icd(code: str) -> str:
    """An ICD-10 code without dot and in capitals: ``I10.x00`` and ``i10`` can be compared."""
    return "".join(letter for letter in code.upper() if letter.isalnum())


def _specialty(request: Request, expert: Expert) -> float:
    if request.department in expert.departments:
        return 1.0
    within = request.department + "."
    return _BROADER if any(code.startswith(within) for code in expert.departments) else 0.0


def _diagnosis(request: Request, expert: Expert) -> float:
    """0: this expert does not take it; undecided where either side says nothing."""
    wanted = normal_icd(request.icd)
    if not wanted or not expert.icd:
        return _UNDECIDED
    prefixes = [normal_icd(prefix) for prefix in expert.icd]
    longest = max((len(each) for each in prefixes if each and wanted.startswith(each)), default=0)
    if not longest:
        return 0.0
    return _UNDECIDED + (1 - _UNDECIDED) * min(1.0, longest / _ICD_CATEGORY)
