"""Acuity: China's four emergency levels, by a table that is data.

The table names its sources, its date and its version, and is checked when it is loaded. Its
rules only ever ask for a level or a more urgent one, and the most urgent that matches counts: a
learned score therefore can raise urgency and cannot lower it, whatever the table says.
"""

import enum
from typing import Annotated

import msgspec

from .errors import TableError
from .news2 import PHYSICAL, Consciousness, News2, Scale, Sign, Vitals


class Level(enum.IntEnum):
    """WS/T 390-2012: the lower the number, the more urgent."""

    IMMEDIATE = 1
    URGENT = 2
    SEMI_URGENT = 3
    NON_URGENT = 4

    @property
    def roman(self) -> str:
        """As it is written in a clinic: I to IV."""
        return ("I", "II", "III", "IV")[self - 1]


Code = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=400)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Measured(_Part, frozen=True, tag="sign", tag_field="when"):
    """A sign below or above a value; with both, either of them. Both ends are exclusive.

    ``scale``: only for patients whose SpO2 is read on this scale of NEWS2.
    """

    sign: Sign
    below: float | None = None
    above: float | None = None
    scale: Scale | None = None

    def matches(self, case: "Case") -> bool:
        """Never for a sign that was not measured."""
        value = getattr(case.vitals, self.sign)
        if value is None or self.scale not in (None, case.score.scale):
            return False
        return (self.below is not None and value < self.below) or (
            self.above is not None and value > self.above
        )


class Awareness(_Part, frozen=True, tag="consciousness", tag_field="when"):
    """Consciousness is one of these."""

    any_of: Annotated[tuple[Consciousness, ...], msgspec.Meta(min_length=1)]

    def matches(self, case: "Case") -> bool:
        """Never while nobody has looked."""
        return case.vitals.consciousness in self.any_of


class Total(_Part, frozen=True, tag="news2", tag_field="when"):
    """NEWS2 is this or more; of an incomplete score, what it is at least."""

    at_least: Annotated[int, msgspec.Meta(ge=1, le=20)]

    def matches(self, case: "Case") -> bool:
        """Points that are not known do not count."""
        return case.score.at_least >= self.at_least


class Red(_Part, frozen=True, tag="news2-red", tag_field="when"):
    """A single sign has 3 points."""

    def matches(self, case: "Case") -> bool:
        """Also in a score with gaps."""
        return case.score.red


class Learned(_Part, frozen=True, tag="model", tag_field="when"):
    """The learned score is at its threshold or above it."""

    def matches(self, case: "Case") -> bool:
        """Never where the model abstained."""
        return case.raised


Condition = Measured | Awareness | Total | Red | Learned


class Rule(_Part, frozen=True):
    """``level`` or a more urgent one, if the condition holds."""

    code: Code
    level: Level
    condition: Condition
    zh: Text
    en: Text
    source: Code


class Target(_Part, frozen=True):
    """What a level is called, and how long a patient of it may wait for a doctor."""

    level: Level
    minutes: Annotated[int, msgspec.Meta(ge=0, le=24 * 60)]
    zh: Text
    en: Text


class Table(_Part, frozen=True):
    """The whole table."""

    name: Code
    version: Annotated[str, msgspec.Meta(pattern=r"^\d+\.\d+$")]
    date: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    sources: Annotated[dict[Code, Text], msgspec.Meta(min_length=1)]
    levels: tuple[Target, ...]
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(min_length=1)]
    reviewed_by: str = ""
    """The physician who confirmed it for this clinic; "" is nobody yet."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at. ``raised``: the model gave a probability, at its threshold or up."""

    vitals: Vitals
    score: News2
    raised: bool = False


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that matched, with its words, so that a record is read without the table."""

    code: str
    level: Level
    zh: str
    en: str


class Acuity(msgspec.Struct, frozen=True, kw_only=True):
    """``level`` is None where signs are missing and nothing found so far asks for III or more.

    Of an incomplete score a level means "this, or more urgent": nobody is called non-urgent for
    want of a measurement.
    """

    level: Level | None
    minutes: int | None
    complete: bool
    reasons: tuple[Reason, ...]
    table: str
    """Name and version."""
    reviewed_by: str = ""


def load(parsed: object) -> Table:
    """A table out of parsed TOML or JSON; TableError says what is wrong with it."""
    try:
        table = msgspec.convert(parsed, Table)
    except msgspec.ValidationError as error:
        raise TableError(f"acuity table: {error}") from error
    _check(table)
    return table


def _check(table: Table) -> None:
    if tuple(target.level for target in table.levels) != tuple(Level):
        raise TableError("acuity table: [[levels]] must be 1, 2, 3, 4, in this order")
    waits = [target.minutes for target in table.levels]
    if waits != sorted(waits):
        raise TableError("acuity table: a more urgent level may not wait longer")
    codes = [rule.code for rule in table.rules]
    if len(set(codes)) != len(codes):
        raise TableError("acuity table: two rules have one code")
    for rule in table.rules:
        if rule.source not in table.sources:
            raise TableError(f"acuity table: rule {rule.code}: no source {rule.source!r}")
        _check_condition(rule)


def _check_condition(rule: Rule) -> None:
    found = rule.condition
    if not isinstance(found, Measured):
        return
    if found.sign not in PHYSICAL:
        raise TableError(f"acuity table: rule {rule.code}: {found.sign} is not a number")
    low, high = PHYSICAL[found.sign]
    ends = [end for end in (found.below, found.above) if end is not None]
    if not ends or not all(low <= end <= high for end in ends):
        raise TableError(f"acuity table: rule {rule.code}: needs below or above, a value in reach")


def assess(table: Table, case: Case) -> Acuity:
    """The most urgent level that a rule asks for, with every rule that matched, most urgent first.

    IV where none matches and every sign was measured.
    """
    matched = sorted(
        (rule for rule in table.rules if rule.condition.matches(case)), key=lambda rule: rule.level
    )
    level = matched[0].level if matched else Level.NON_URGENT
    known = case.score.complete or level is not Level.NON_URGENT
    return Acuity(
        level=level if known else None,
        minutes=table.levels[level - 1].minutes if known else None,
        complete=case.score.complete,
        reasons=tuple(
            Reason(code=rule.code, level=rule.level, zh=rule.zh, en=rule.en) for rule in matched
        ),
        table=f"{table.name} {table.version}",
        reviewed_by=table.reviewed_by,
    )
