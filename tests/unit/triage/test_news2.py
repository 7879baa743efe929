"""NEWS2 against its chart, written down here a second time, value by value."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import news2
from lianzhen_protocol.errors import VitalsError
from lianzhen_protocol.news2 import Consciousness, News2, Risk, Scale, Sign, Vitals, exempt, score

NORMAL = Vitals(
    respiration=16,
    spo2=97,
    oxygen=False,
    systolic=120,
    pulse=70,
    consciousness=Consciousness.ALERT,
    temperature=37.0,
)

# Each line: the sign, and what the printed chart says at both ends of every box of its row.
CHART = """
respiration    0:3 8:3 9:1 11:1 12:0 20:0 21:2 24:2 25:3 60:3
spo2           0:3 91:3 92:2 93:2 94:1 95:1 96:0 100:0
systolic       0:3 90:3 91:2 100:2 101:1 110:1 111:0 219:0 220:3 300:3
pulse          0:3 40:3 41:1 50:1 51:0 90:0 91:1 110:1 111:2 130:2 131:3 250:3
temperature    30.0:3 35.0:3 35.1:1 36.0:1 36.1:0 38.0:0 38.1:1 39.0:1 39.1:2 43.0:2
"""
SCALE_2_AIR = "0:3 83:3 84:2 85:2 86:1 87:1 88:0 92:0 93:0 94:0 95:0 96:0 97:0 100:0"
SCALE_2_OXYGEN = "0:3 83:3 84:2 85:2 86:1 87:1 88:0 92:0 93:1 94:1 95:2 96:2 97:3 100:3"


def boxes(line: str) -> list[tuple[float, int]]:
    pairs = [box.split(":") for box in line.split()]
    return [(float(value), int(points)) for value, points in pairs]


def of(sign: Sign, found: News2) -> int | None:
    return next(part.points for part in found.parts if part.sign is sign)


def changed(vitals: Vitals, **signs: object) -> Vitals:
    return msgspec.structs.replace(vitals, **signs)


@pytest.mark.parametrize(
    ("sign", "value", "points"),
    [
        (Sign(line.split()[0]), *box)
        for line in CHART.strip().splitlines()
        for box in boxes(line.split(maxsplit=1)[1])
    ],
)
def test_every_edge_of_the_chart(sign: Sign, value: float, points: int) -> None:
    found = score(changed(NORMAL, **{sign: value}))
    assert of(sign, found) == points
    assert found.total == points
    assert found.red is (points == 3)


@pytest.mark.parametrize(("spo2", "points"), boxes(SCALE_2_AIR))
def test_the_second_scale_on_air(spo2: float, points: int) -> None:
    assert score(changed(NORMAL, spo2=spo2), scale=2).total == points


@pytest.mark.parametrize(("spo2", "points"), boxes(SCALE_2_OXYGEN))
def test_the_second_scale_on_oxygen(spo2: float, points: int) -> None:
    assert score(changed(NORMAL, spo2=spo2, oxygen=True), scale=2).total == points + 2


def test_on_the_second_scale_without_knowing_of_oxygen_a_high_value_has_no_points() -> None:
    unknown = changed(NORMAL, oxygen=None)
    for value, points in boxes(SCALE_2_OXYGEN):
        found = score(changed(unknown, spo2=value), scale=2)
        assert of(Sign.SPO2, found) == (points if value < 93 else None)
        assert found.missing == (Sign.OXYGEN,)


def test_oxygen_is_two_points_and_no_red() -> None:
    found = score(changed(NORMAL, oxygen=True))
    assert (found.total, found.red, found.risk) == (2, False, Risk.LOW)


@pytest.mark.parametrize("awake", Consciousness)
def test_anything_but_alert_is_red(awake: Consciousness) -> None:
    found = score(changed(NORMAL, consciousness=awake))
    assert found.total == (0 if awake == "A" else 3)
    assert found.risk == ("low" if awake == "A" else "low-medium")


@pytest.mark.parametrize(
    ("signs", "total", "risk"),
    [
        ({}, 0, "low"),
        ({"pulse": 120, "oxygen": True}, 4, "low"),
        ({"pulse": 135, "temperature": 38.5}, 4, "low-medium"),
        ({"pulse": 135, "oxygen": True}, 5, "medium"),
        ({"pulse": 120, "oxygen": True, "respiration": 22}, 6, "medium"),
        ({"pulse": 120, "oxygen": True, "respiration": 26}, 7, "high"),
    ],
)
def test_what_a_total_asks_for(signs: dict[str, float], total: int, risk: str) -> None:
    found = score(changed(NORMAL, **signs))
    assert (found.total, found.risk) == (total, risk)


def test_nothing_measured_is_no_score_at_all() -> None:
    found = score(Vitals())
    assert found.total is None
    assert not found.complete
    assert (found.at_least, found.at_most) == (0, 20)
    assert found.missing == tuple(Sign)


@pytest.mark.parametrize(
    ("value", "points"),
    [(35.04, 3), (35.06, 1), (38.04, 0), (38.06, 1), (39.04, 1), (39.06, 2)],
)
def test_a_finer_thermometer_is_read_to_the_step_of_the_chart(value: float, points: int) -> None:
    assert score(changed(NORMAL, temperature=value)).total == points


@pytest.mark.parametrize(
    ("sign", "value"),
    [("spo2", 100.1), ("pulse", -1), ("temperature", 9.9), ("pulse", math.nan), ("spo2", math.inf)],
)
def test_what_no_body_shows_is_refused(sign: str, value: float) -> None:
    with pytest.raises(VitalsError, match=sign):
        changed(NORMAL, **{sign: value})


@pytest.mark.parametrize(
    ("age", "pregnant", "reason"),
    [
        (15, None, "under-16"),
        (0, True, "under-16"),
        (16, None, None),
        (None, None, None),
        (30, True, "pregnant"),
        (None, True, "pregnant"),
        (30, False, None),
    ],
)
def test_who_is_not_scored(age: int | None, pregnant: bool | None, reason: str | None) -> None:
    assert exempt(age, pregnant) == reason


# --- what holds for all patients ---

measured = {sign: st.none() | st.floats(low, high) for sign, (low, high) in news2.PHYSICAL.items()}
anybody = st.builds(
    Vitals,
    **measured,
    oxygen=st.none() | st.booleans(),
    consciousness=st.none() | st.sampled_from(Consciousness),
)
scales: st.SearchStrategy[Scale] = st.sampled_from([1, 2])


@given(anybody, scales)
def test_a_score_with_a_gap_is_never_a_total(vitals: Vitals, scale: Scale) -> None:
    found = score(vitals, scale)
    missing = [sign for sign in Sign if getattr(vitals, sign) is None]
    assert list(found.missing) == missing
    assert (found.total is None) == bool(missing)
    assert found.at_least <= found.at_most <= 20
    assert found.complete == (found.at_least == found.at_most)


@given(anybody, anybody, scales)
def test_measuring_more_stays_within_what_was_said(
    vitals: Vitals, more: Vitals, scale: Scale
) -> None:
    gaps = {sign: getattr(more, sign) for sign in Sign if getattr(vitals, sign) is None}
    before, after = score(vitals, scale), score(changed(vitals, **gaps), scale)
    assert before.at_least <= after.at_least
    assert after.at_most <= before.at_most
    assert after.red or not before.red
    assert list(Risk).index(before.risk) <= list(Risk).index(after.risk)


@given(anybody, scales, st.sampled_from(Sign))
def test_a_gap_never_hides_a_red_sign(vitals: Vitals, scale: Scale, kept: Sign) -> None:
    alone = changed(Vitals(), **{kept: getattr(vitals, kept)})
    if score(alone, scale).red:
        assert score(vitals, scale).red
        assert score(vitals, scale).risk is not Risk.LOW


CENTRES = {"respiration": 16, "spo2": 100, "systolic": 165, "pulse": 70, "temperature": 37}


@given(st.sampled_from(sorted(CENTRES)), st.data())
def test_further_from_normal_is_never_fewer_points(sign: str, data: st.DataObject) -> None:
    low, high = news2.PHYSICAL[Sign(sign)]
    centre = CENTRES[sign]
    near = data.draw(st.floats(low, high))
    far = data.draw(st.floats(low, near) if near < centre else st.floats(near, high))
    points = [of(Sign(sign), score(changed(Vitals(), **{sign: value}))) for value in (near, far)]
    assert points[0] is not None
    assert points[1] is not None
    assert points[0] <= points[1]


@given(anybody, scales)
def test_a_score_survives_the_wire(vitals: Vitals, scale: Scale) -> None:
    found = score(vitals, scale)
    wire = msgspec.msgpack.encode((vitals, found))
    assert msgspec.msgpack.decode(wire, type=tuple[Vitals, News2]) == (vitals, found)


def test_every_combination_of_boxes_adds_up() -> None:
    """All 5 * 4 * 2 * 5 * 6 * 2 * 5 boxes of scale 1, by adding the transcription above."""
    rows = {line.split()[0]: boxes(line.split(maxsplit=1)[1]) for line in CHART.strip().split("\n")}
    lows = {sign: row[:: max(1, len(row) // 4)] for sign, row in rows.items()}
    names = list(lows)
    for combination in itertools.product(*lows.values(), [(False, 0), (True, 2)]):
        *signs, (oxygen, extra) = combination
        values = {name: value for name, (value, _) in zip(names, signs, strict=True)}
        found = score(changed(NORMAL, **values, oxygen=oxygen))
        assert found.total == extra + sum(points for _, points in signs)
