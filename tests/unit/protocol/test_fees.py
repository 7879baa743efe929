"""Rules are data: dated, with a source; which one holds depends on the day of the service."""

from datetime import date, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import fees
from lianzhen_protocol.errors import SettlementError
from lianzhen_protocol.fees import CHINA, PayRule
from support.money import REGION, RULES, SERVICE_MS, SHIPPED

GOOD = SHIPPED.read_text(encoding="utf-8")


def ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=CHINA).timestamp() * 1000)


def pay_rule() -> PayRule:
    rule = RULES.pay_for(SERVICE_MS)
    assert rule is not None
    return rule


@pytest.mark.parametrize(
    ("insurance", "ratio_bp", "cap_fen"), [("resident", 7000, 20_000), ("employee", 8000, 15_000)]
)
def test_the_two_simple_policies(insurance: str, ratio_bp: int, cap_fen: int) -> None:
    policy = RULES.policy_for(REGION, insurance, SERVICE_MS)
    assert policy is not None
    assert (policy.ratio_bp, policy.visit_cap_fen) == (ratio_bp, cap_fen)
    assert "brief" in policy.source


@pytest.mark.parametrize(
    ("level", "minutes", "fen"),
    [
        ("city", 0, 29_750),
        ("city", 1, 29_750),
        ("city", 30, 29_750),
        ("city", 31, 59_500),
        ("city", 60, 59_500),
        ("province", 61, 105_000),
        ("national", 180, 465_000),
        ("national", 100_000, 465_000),
    ],
)
def test_every_begun_band_is_charged_up_to_the_cap(level: str, minutes: int, fen: int) -> None:
    assert RULES.tariff_for(REGION, level, SERVICE_MS).price(minutes) == fen


def test_a_service_that_no_tariff_covers_is_one_sentence() -> None:
    with pytest.raises(SettlementError, match=r"level 'moon' in region '520300' on 2026-") as error:
        RULES.tariff_for(REGION, "moon", SERVICE_MS)
    assert error.value.code == "settlement-no-tariff"


DATED = """
[[policy]]
id = "a"
version = 1
region = "1"
insurance = "resident"
valid_from = 2024-01-01
valid_to = 2024-12-31
ratio_bp = 5000
visit_cap_fen = 1
source = "x"
[[policy]]
id = "b"
version = 2
region = "1"
insurance = "resident"
valid_from = 2024-07-01
ratio_bp = 6000
visit_cap_fen = 1
source = "x"
"""


@pytest.mark.parametrize(
    ("day", "found"),
    [
        ((2023, 12, 31, 23, 59), None),
        ((2024, 1, 1, 0, 0), "a"),
        ((2024, 6, 30, 23, 59), "a"),
        ((2024, 7, 1, 0, 0), "b"),
        ((2025, 1, 1, 0, 0), "b"),
    ],
)
def test_the_day_of_service_in_china_decides(day: tuple[int, ...], found: str | None) -> None:
    rules = fees.read_rules([("dated.toml", DATED.encode())])
    policy = rules.policy_for("1", "resident", ms(*day))
    assert (policy.id if policy else None) == found
    assert rules.policy_for("2", "resident", ms(*day)) is None


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("ratio_bp = 7000|ratio_bp = 10001", r"guizhou.toml: .*ratio_bp|guizhou.toml: Expected"),
        ("ratio_bp = 7000|ratio_bp = 0.7", "guizhou.toml: Expected `int`, got `float`"),
        ("visit_cap_fen = 20000|visit_cap_fen = -1", "guizhou.toml: Expected `int` >= 0"),
        ("hour_fen|hourly_fen", "unknown field `hourly_fen`"),
        ("minutes = 30, fen = 15000|minutes = 30, fen = 7999", "bands rise in minutes"),
        ('insurance = "employee"|insurance = "resident"', "two rules for 520300 resident"),
        ("[[policy]]|[[policy]", "is not TOML"),
    ],
)
def test_a_bad_rule_is_refused_in_a_sentence(wrong: str, sentence: str) -> None:
    old, new = wrong.split("|")
    with pytest.raises(SettlementError, match=sentence):
        fees.read_rules([("guizhou.toml", GOOD.replace(old, new).encode())])


def test_a_later_file_adds_a_version_and_the_first_stays() -> None:
    more = GOOD.split("\n[[policy]]")[1].replace("version = 1", "version = 2")
    more = "[[policy]]" + more.replace("2024-01-01", "2027-01-01").replace("7000", "6500")
    rules = fees.read_rules([("a.toml", GOOD.encode()), ("b.toml", more.encode())])
    before = rules.policy_for(REGION, "resident", ms(2026, 12, 31))
    after = rules.policy_for(REGION, "resident", ms(2027, 1, 1))
    assert before is not None
    assert after is not None
    assert (before.ratio_bp, after.ratio_bp) == (7000, 6500)


def test_a_year_is_chinas() -> None:
    begin, end = fees.year_of(ms(2026, 1, 1))
    assert (begin, end) == (ms(2026, 1, 1), ms(2027, 1, 1))
    assert fees.year_of(begin - 1)[1] == begin


# -- pay: a table of examples, worked out by hand from the rule's text

DAY, NIGHT = ms(2026, 11, 24, 14), ms(2026, 11, 24, 23)


@pytest.mark.parametrize(
    ("minutes", "title", "begun", "urgent", "fen"),
    [
        (10, "attending", DAY, False, 8_000),
        (15, "attending", DAY, False, 8_000),
        (16, "attending", DAY, False, 15_000),
        (25, "associate-chief", DAY, False, 18_000),
        (25, "chief", DAY, False, 22_500),
        (25, "chief", NIGHT, False, 27_000),
        (25, "chief", DAY, True, 29_250),
        (25, "chief", NIGHT, True, 33_750),
        (25, "a title nobody has", DAY, False, 15_000),
        (500, "attending", DAY, False, 50_000),
        (180, "chief", NIGHT, True, 100_000),  # 1125 yuan, capped at 1000
    ],
)
def test_pay_by_the_table(minutes: int, title: str, begun: int, urgent: bool, fen: int) -> None:
    found = fees.pay(pay_rule(), minutes, title, begun, urgent=urgent)
    assert (found.fen, found.rule_version, found.capped) == (fen, 1, fen == 100_000)


@pytest.mark.parametrize(
    ("hour", "night"), [(5, True), (6, False), (21, False), (22, True), (0, True)]
)
def test_night_runs_over_midnight(hour: int, night: bool) -> None:
    assert pay_rule().is_night(ms(2026, 11, 24, hour)) is night
    day_shift = msgspec.structs.replace(pay_rule(), night_from=1, night_to=5)
    assert day_shift.is_night(ms(2026, 11, 24, hour)) is (1 <= hour < 5)


@given(st.integers(0, 400), st.integers(0, 60), st.booleans())
def test_more_minutes_never_pay_less(minutes: int, more: int, urgent: bool) -> None:
    less = fees.pay(pay_rule(), minutes, "chief", DAY, urgent=urgent)
    longer = fees.pay(pay_rule(), minutes + more, "chief", DAY, urgent=urgent)
    assert 0 < less.fen <= longer.fen <= pay_rule().cap_fen


def test_every_rule_that_ships_has_a_source_and_a_date() -> None:
    rules = (*RULES.policy, *RULES.tariff, *RULES.pay)
    assert len(rules) == 6
    assert all(rule.source and rule.valid_from >= date(2024, 1, 1) for rule in rules)
