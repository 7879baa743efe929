"""What a consultation costs and what its expert is paid: dated rules, read as data; pure.

A rule holds from a date to a date, has a version and says where it comes from. What held on the
day of the service decides, never today's rule. All money is integer fen; what does not divide is
rounded down, so neither a fund nor an expert is ever paid a fen that no rule gives.
"""

import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, Final, TypeVar

import msgspec

from .errors import SettlementError

Fen = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
"""Integer fen; the limit (10^10 yuan) keeps every product far inside 64 bits."""

BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
WHOLE: Final = 10_000
"""100 % in basis points."""

CHINA: Final = timezone(timedelta(hours=8))
"""China has one time zone and no summer time; dates of service are its dates."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Hour = Annotated[int, msgspec.Meta(ge=0, le=23)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every rule has: name, version, the days that it holds (both inclusive), its source."""

    id: Name
    version: Annotated[int, msgspec.Meta(ge=1)]
    valid_from: date
    valid_to: date | None = None
    source: Annotated[str, msgspec.Meta(min_length=1)]

    def holds(self, day: date) -> bool:
        """Whether it is in force on ``day``."""
        return self.valid_from <= day and (self.valid_to is None or day <= self.valid_to)

    def scope(self) -> tuple[str, ...]:
        """What it is a rule for: of two for the same, the higher version holds."""
        raise NotImplementedError


class Policy(Rule, frozen=True):
    """What the insurance fund of a region pays of a visit."""

    region: Name
    insurance: Name
    ratio_bp: Annotated[int, msgspec.Meta(ge=0, le=WHOLE)]
    visit_cap_fen: Fen
    deductible_fen: Fen = 0
    """A year's: the first so much in scope is the patient's own."""

    yearly_cap_fen: Fen | None = None

    def scope(self) -> tuple[str, ...]:
        """A region's kind of insurance."""
        return self.region, self.insurance


class Tariff(Rule, frozen=True):
    """The price of a remote consultation by the time it takes."""

    region: Name
    level: Name
    hour_fen: Fen
    band_minutes: Annotated[int, msgspec.Meta(ge=1, le=60)]
    max_minutes: Annotated[int, msgspec.Meta(ge=1)]

    def scope(self) -> tuple[str, ...]:
        """A region's level of experts."""
        return self.region, self.level

    def price(self, minutes: int) -> int:
        """Fen for so many minutes: every begun band is charged, up to ``max_minutes``."""
        charged = min(max(minutes, 1), self.max_minutes)
        bands = -(-charged // self.band_minutes)
        return self.hour_fen * bands * self.band_minutes // 60


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to so many minutes pay so much."""

    minutes: Annotated[int, msgspec.Meta(ge=1)]
    fen: Fen


class PayRule(Rule, frozen=True):
    """What an expert is paid: a band of minutes, times title, plus night and urgency, capped."""

    bands: Annotated[tuple[Band, ...], msgspec.Meta(min_length=1)]
    titles: dict[str, BasisPoints]
    night_from: Hour
    night_to: Hour
    night_bp: BasisPoints
    urgent_bp: BasisPoints
    cap_fen: Fen

    def __post_init__(self) -> None:
        """Longer never pays less."""
        pairs = zip(self.bands, self.bands[1:], strict=False)
        if any(a.minutes >= b.minutes or a.fen > b.fen for a, b in pairs):
            raise ValueError(f"{self.id}: bands rise in minutes and never fall in fen")

    def scope(self) -> tuple[str, ...]:
        """All experts."""
        return ("expert",)

    def is_night(self, at_ms: int) -> bool:
        """Whether a consultation that began then counts as one at night, by China's clock."""
        hour = china_time(at_ms).hour
        if self.night_from <= self.night_to:
            return self.night_from <= hour < self.night_to
        return hour >= self.night_from or hour < self.night_to


class Pay(msgspec.Struct, frozen=True, kw_only=True):
    """What an expert is paid for one consultation, and how it came to that."""

    rule_id: str
    rule_version: int
    minutes: int
    base_fen: int
    title_bp: int
    surcharge_bp: int
    fen: int
    capped: bool


def pay(rule: PayRule, minutes: int, title: str, begun_ms: int, *, urgent: bool) -> Pay:
    """One consultation's pay. A title that the rule does not know is paid as WHOLE."""
    base = next((band.fen for band in rule.bands if minutes <= band.minutes), rule.bands[-1].fen)
    title_bp = rule.titles.get(title, WHOLE)
    surcharge = rule.night_bp * rule.is_night(begun_ms) + rule.urgent_bp * urgent
    earned = base * title_bp * (WHOLE + surcharge) // (WHOLE * WHOLE)
    return Pay(
        rule_id=rule.id,
        rule_version=rule.version,
        minutes=minutes,
        base_fen=base,
        title_bp=title_bp,
        surcharge_bp=surcharge,
        fen=min(earned, rule.cap_fen),
        capped=earned > rule.cap_fen,
    )


R = TypeVar("R", bound=Rule)


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All rules of one or more files."""

    policy: tuple[Policy, ...] = ()
    tariff: tuple[Tariff, ...] = ()
    pay: tuple[PayRule, ...] = ()

    def policy_for(self, region: str, insurance: str, service_ms: int) -> Policy | None:
        """The policy in force on the day of the service; None: no fund pays."""
        return _in_force(self.policy, (region, insurance), service_ms)

    def tariff_for(self, region: str, level: str, service_ms: int) -> Tariff:
        """The price list of that day. SettlementError if there is none."""
        found = _in_force(self.tariff, (region, level), service_ms)
        if found is None:
            day = china_time(service_ms).date()
            raise SettlementError(
                f"no price for level {level!r} in region {region!r} on {day}: add a [[tariff]]",
                code="settlement-no-tariff",
            )
        return found

    def pay_for(self, service_ms: int) -> PayRule | None:
        """The pay rule of that day."""
        return _in_force(self.pay, ("expert",), service_ms)


def read_rules(files: Iterable[tuple[str, bytes]]) -> Rules:
    """Rules out of TOML files, given as (name, content). SettlementError says which and what."""
    found = [_read(name, content) for name, content in files]
    rules = Rules(
        tuple(rule for each in found for rule in each.policy),
        tuple(rule for each in found for rule in each.tariff),
        tuple(rule for each in found for rule in each.pay),
    )
    _distinct(rules.policy)
    _distinct(rules.tariff)
    _distinct(rules.pay)
    return rules


def china_time(at_ms: int) -> datetime:
    """The time on a clock in China."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(CHINA)


def year_of(at_ms: int) -> tuple[int, int]:
    """The China year that a time lies in, as [from, to) in UTC ms: what yearly limits count."""
    year = china_time(at_ms).year
    begin, end = (datetime(each, 1, 1, tzinfo=CHINA) for each in (year, year + 1))
    return int(begin.timestamp() * 1000), int(end.timestamp() * 1000)


def _in_force(rules: Sequence[R], scope: tuple[str, ...], service_ms: int) -> R | None:
    day = china_time(service_ms).date()
    return max(
        (rule for rule in rules if rule.scope() == scope and rule.holds(day)),
        key=lambda rule: rule.version,
        default=None,
    )


def _read(name: str, content: bytes) -> Rules:
    try:
        return msgspec.convert(tomllib.loads(content.decode()), Rules)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettlementError(f"{name} is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise SettlementError(f"{name}: {error}") from error


def _distinct(rules: Sequence[Rule]) -> None:
    """No version of a rule stands there twice: which one holds would be chance."""
    seen: set[tuple[tuple[str, ...], int]] = set()
    for rule in rules:
        key = (rule.scope(), rule.version)
        if key in seen:
            what = " ".join(rule.scope())
            raise SettlementError(
                f"two rules for {what} have version {rule.version}: give {rule.id} a higher one"
            )
        seen.add(key)
