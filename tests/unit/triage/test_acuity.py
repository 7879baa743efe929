"""The table of the four levels, as it ships, and what no table can do."""

import copy
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lianzhen_edge.triage
from lianzhen_protocol import news2
from lianzhen_protocol.acuity import Case, Level, assess, load
from lianzhen_protocol.errors import TableError
from lianzhen_protocol.news2 import Consciousness, Scale, Vitals

SHIPPED = tomllib.loads((Path(lianzhen_edge.triage.__file__).parent / "acuity.toml").read_text())
TABLE = load(SHIPPED)
WELL: dict[str, Any] = {
    "respiration": 16,
    "spo2": 97,
    "oxygen": False,
    "systolic": 120,
    "pulse": 70,
    "consciousness": Consciousness.ALERT,
    "temperature": 37.0,
}


def case(vitals: Vitals, scale: Scale = 1, *, raised: bool = False) -> Case:
    return Case(vitals=vitals, score=news2.score(vitals, scale), raised=raised)


@pytest.mark.parametrize(
    ("signs", "level", "first"),
    [
        ({}, 4, None),
        ({"pulse": 39}, 1, "pulse-critical"),
        ({"pulse": 40}, 2, "pulse-severe"),
        ({"pulse": 180}, 2, "pulse-severe"),
        ({"pulse": 181}, 1, "pulse-critical"),
        ({"pulse": 150}, 3, "news2-red"),
        ({"pulse": 101}, 3, "pulse-raised"),
        ({"pulse": 100}, 4, None),
        ({"pulse": 54}, 3, "pulse-raised"),
        ({"systolic": 69}, 1, "systolic-critical"),
        ({"systolic": 70}, 2, "systolic-severe"),
        ({"systolic": 80}, 3, "news2-red"),
        ({"systolic": 201}, 2, "systolic-severe"),
        ({"systolic": 181}, 3, "systolic-raised"),
        ({"spo2": 79}, 1, "spo2-critical"),
        ({"spo2": 89}, 2, "spo2-severe"),
        ({"spo2": 90}, 3, "news2-red"),
        ({"spo2": 93}, 4, None),
        ({"temperature": 41.1}, 1, "temperature-critical"),
        ({"temperature": 35.0}, 3, "news2-red"),
        ({"consciousness": "U"}, 1, "unresponsive"),
        ({"consciousness": "P"}, 1, "unresponsive"),
        ({"consciousness": "V"}, 2, "drowsy-or-confused"),
        ({"consciousness": "C"}, 2, "drowsy-or-confused"),
        ({"respiration": 22, "spo2": 94, "oxygen": True}, 3, "news2-medium"),
        ({"respiration": 24, "spo2": 92, "oxygen": True, "temperature": 38.5}, 2, "news2-high"),
    ],
)
def test_what_the_shipped_table_says(signs: dict[str, Any], level: int, first: str | None) -> None:
    vitals = msgspec.convert(WELL | signs, Vitals)
    found = assess(TABLE, case(vitals))
    assert found.level == level
    assert (found.reasons[0].code if found.reasons else None) == first
    assert found.minutes == {1: 0, 2: 10, 3: 30, 4: 60}[level]


def test_the_second_scale_has_its_own_border() -> None:
    low, lower = (msgspec.convert(WELL | {"spo2": value}, Vitals) for value in (88, 83))
    assert assess(TABLE, case(low, scale=2)).level is Level.NON_URGENT
    found = assess(TABLE, case(lower, scale=2))
    assert (found.level, found.reasons[0].code) == (Level.URGENT, "spo2-severe-scale-2")


def test_nobody_is_called_non_urgent_for_want_of_a_measurement() -> None:
    for sign in WELL:
        found = assess(TABLE, case(msgspec.convert(WELL | {sign: None}, Vitals)))
        assert (found.level, found.minutes, found.complete) == (None, None, False)


def test_a_gap_does_not_keep_back_what_is_urgent() -> None:
    found = assess(TABLE, case(Vitals(pulse=190)))
    assert (found.level, found.complete) == (Level.IMMEDIATE, False)


def test_every_reason_is_told_the_most_urgent_first() -> None:
    found = assess(TABLE, case(Vitals(pulse=190), raised=True))
    assert [reason.code for reason in found.reasons] == [
        *("pulse-critical", "pulse-severe", "news2-red", "pulse-raised", "model-raised"),
    ]
    assert all(reason.zh and reason.en for reason in found.reasons)


def test_every_level_is_reached_and_every_rule_has_its_source() -> None:
    assert {rule.level for rule in TABLE.rules} == set(Level) - {Level.NON_URGENT}
    assert {rule.source for rule in TABLE.rules} <= set(TABLE.sources)
    assert [target.level.roman for target in TABLE.levels] == ["I", "II", "III", "IV"]


anybody = st.builds(
    Vitals,
    **{sign: st.none() | st.floats(low, high) for sign, (low, high) in news2.PHYSICAL.items()},
    oxygen=st.none() | st.booleans(),
    consciousness=st.none() | st.sampled_from(Consciousness),
)


def urgency(level: Level | None) -> int:
    return 0 if level is None else 5 - level


@given(anybody, st.sampled_from([1, 2]), st.permutations(range(len(TABLE.rules))))
def test_a_learned_score_never_lowers_urgency_whatever_the_table(
    vitals: Vitals, scale: Scale, order: list[int]
) -> None:
    shuffled = msgspec.structs.replace(TABLE, rules=tuple(TABLE.rules[at] for at in order))
    without = assess(shuffled, case(vitals, scale))
    with_it = assess(shuffled, case(vitals, scale, raised=True))
    assert urgency(with_it.level) >= urgency(without.level)
    assert urgency(with_it.level) >= urgency(Level.SEMI_URGENT)


@given(anybody)
def test_a_level_is_the_most_urgent_of_its_reasons(vitals: Vitals) -> None:
    found = assess(TABLE, case(vitals))
    if found.reasons:
        assert found.level == min(reason.level for reason in found.reasons)
    else:
        assert found.level == (Level.NON_URGENT if found.complete else None)


def broken(path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(SHIPPED)
    place = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("levels",), SHIPPED["levels"][:3], "1, 2, 3, 4"),
        (("levels", 0, "minutes"), 90, "wait longer"),
        (("rules", 0, "source"), "hearsay", "no source"),
        (("rules", 0, "code"), "systolic-critical", "one code"),
        (("rules", 0, "level"), 5, "rules"),
        (("rules", 0, "condition"), {"when": "sign", "sign": "pulse"}, "below or above"),
        (("rules", 0, "condition"), {"when": "sign", "sign": "oxygen", "below": 1}, "not a number"),
        (("rules", 0, "condition"), {"when": "sign", "sign": "spo2", "above": 101}, "in reach"),
        (("rules", 0, "condition"), {"when": "moon"}, "moon"),
        (("rules", 0, "unknown"), 1, "unknown"),
        (("date",), "yesterday", "date"),
        (("rules",), [], "rules"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(
    path: tuple[Any, ...], value: Any, complaint: str
) -> None:
    with pytest.raises(TableError, match=complaint):
        load(broken(path, value))
