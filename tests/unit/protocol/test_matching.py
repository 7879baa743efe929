"""Matching: hard filters with their reasons, a bounded score, fair and explained."""

import itertools
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol.departments import DEPARTMENTS
from lianzhen_protocol.matching import (
    URGENT_WEIGHTS,
    WEIGHTS,
    Bar,
    Expert,
    Licence,
    Match,
    Request,
    Standing,
    Title,
    bars,
    factors,
    inbox_order,
    normal_icd,
    rank,
    score,
    urgent,
)

FINE = Expert(
    id="e-1",
    name="陈主任",
    title=Title.CHIEF,
    departments=("03.04",),
    icd=("I10", "I20"),
    own_nodes=("n-own",),
)
ASKS = Request(department="03.04", node="n-1", icd="I10.x00", consented=True)
HERE = Standing(online=True)


def changed(**changes: object) -> Expert:
    return msgspec.structs.replace(FINE, **changes)


@pytest.mark.parametrize(
    ("bar", "request_", "expert", "standing"),
    [
        (Bar.CONSENT, msgspec.structs.replace(ASKS, consented=False), FINE, HERE),
        (Bar.LICENCE, ASKS, changed(licence=Licence.SUSPENDED), HERE),
        (Bar.LICENCE, ASKS, changed(licence=Licence.REVOKED), HERE),
        (Bar.DEPARTMENT, ASKS, changed(departments=("03",)), HERE),
        (Bar.DEPARTMENT, ASKS, changed(departments=()), HERE),
        (Bar.DIAGNOSIS, msgspec.structs.replace(ASKS, icd="J18"), FINE, HERE),
        (Bar.CONFLICT, msgspec.structs.replace(ASKS, node="n-own"), FINE, HERE),
        (Bar.LEAVE, ASKS, changed(on_leave=True), HERE),
        (Bar.ASKED, msgspec.structs.replace(ASKS, asked=("e-1",)), FINE, HERE),
        (Bar.LOAD, ASKS, FINE, Standing(online=True, load=5)),
        (Bar.OFFLINE, ASKS, FINE, Standing(online=False)),
    ],
)
def test_each_filter_alone_keeps_somebody_out(
    bar: Bar, request_: Request, expert: Expert, standing: Standing
) -> None:
    assert bars(ASKS, FINE, HERE) == ()
    assert bars(request_, expert, standing) == (bar,)
    ranking = rank(request_, [(expert, standing)])
    assert (ranking.matches, ranking.barred) == ((), {"e-1": (bar,)})


def test_every_filter_has_its_test() -> None:
    nothing = Request(department="04", node="n-own", icd="J18", asked=("e-1",))
    nobody = changed(licence=Licence.REVOKED, on_leave=True)
    assert bars(nothing, nobody, Standing(load=9)) == tuple(Bar)


@pytest.mark.parametrize(
    ("icd", "fits"),
    [("I10", True), ("I10.x00", True), ("i10.X05", True), ("I20.0", True), ("I11", False),
     ("I1", False), ("J18.9", False), ("", True)],
)  # fmt: skip
def test_a_diagnosis_fits_by_its_prefix(icd: str, fits: bool) -> None:
    request = msgspec.structs.replace(ASKS, icd=icd)
    assert (Bar.DIAGNOSIS not in bars(request, FINE, HERE)) == fits
    assert Bar.DIAGNOSIS not in bars(request, changed(icd=()), HERE)  # takes all


def test_a_code_is_compared_without_its_spelling() -> None:
    assert normal_icd(" i10.x00 ") == "I10X00"
    wide = factors(ASKS, changed(icd=("I",)), HERE)["diagnosis"]
    close = factors(ASKS, FINE, HERE)["diagnosis"]
    unsaid = factors(ASKS, changed(icd=()), HERE)["diagnosis"]
    assert unsaid < wide < close == 1.0


def test_a_request_to_a_whole_department_is_for_its_specialties_too() -> None:
    wide = msgspec.structs.replace(ASKS, department="03")
    assert bars(wide, FINE, HERE) == ()
    exact = changed(departments=("03",))
    assert factors(wide, FINE, HERE)["specialty"] < factors(wide, exact, HERE)["specialty"]
    assert Bar.DEPARTMENT in bars(msgspec.structs.replace(ASKS, department="0"), FINE, HERE)


def test_the_best_match_scores_one_and_a_busy_resident_far_less_but_never_below_zero() -> None:
    (best,) = rank(ASKS, [(FINE, HERE)]).matches
    assert best.score == 1.0
    busy = changed(title=Title.RESIDENT, icd=(), capacity=60)
    (worst,) = rank(ASKS, [(busy, Standing(online=True, load=59))]).matches
    assert 0.0 <= worst.score < 0.5


def test_a_match_explains_itself() -> None:
    (match,) = rank(ASKS, [(changed(title=Title.ATTENDING), Standing(True, 1, 5))]).matches
    assert {each.name: (each.value, each.weight) for each in match.factors} == {
        "specialty": (1.0, 0.30),
        "diagnosis": (1.0, 0.25),
        "title": (0.5, 0.15),
        "free": (0.8, 0.30),
    }
    assert match.score == pytest.approx(sum(e.value * e.weight for e in match.factors))
    assert msgspec.json.decode(msgspec.json.encode(match), type=Match) == match


units = st.floats(0, 1)
values = st.fixed_dictionaries(dict.fromkeys(WEIGHTS, units))


@pytest.mark.parametrize("weights", [WEIGHTS, URGENT_WEIGHTS])
def test_the_weights_are_all_there_and_sum_to_one(weights: dict[str, float]) -> None:
    assert set(weights) == set(factors(ASKS, FINE, HERE))
    assert sum(weights.values()) == pytest.approx(1.0)
    assert min(weights.values()) > 0


@given(values, st.sampled_from(sorted(WEIGHTS)), units, st.sampled_from([WEIGHTS, URGENT_WEIGHTS]))
def test_the_score_is_bounded_and_monotone_in_each_factor(
    given_: dict[str, float], name: str, other: float, weights: dict[str, float]
) -> None:
    low, high = sorted((given_[name], other))
    below, above = (score(given_ | {name: value}, weights) for value in (low, high))
    assert 0.0 <= below <= above <= 1.0


experts = st.builds(
    Expert,
    id=st.sampled_from([f"e-{n}" for n in range(9)]),
    name=st.just("x"),
    title=st.sampled_from(Title),
    licence=st.sampled_from(Licence),
    departments=st.lists(st.sampled_from(sorted(DEPARTMENTS)), max_size=4).map(tuple),
    icd=st.lists(st.sampled_from(["I", "I10", "I2", "J18", "K"]), max_size=3).map(tuple),
    own_nodes=st.sampled_from([(), ("n-1",)]),
    on_leave=st.booleans(),
    capacity=st.integers(1, 9),
)
standings = st.builds(Standing, st.booleans(), st.integers(0, 9), st.integers(0, 3))
requests = st.builds(
    Request,
    department=st.sampled_from(sorted(DEPARTMENTS)),
    node=st.just("n-1"),
    icd=st.sampled_from(["", "I10.x00", "J18"]),
    acuity=st.none() | st.integers(1, 4),
    consented=st.booleans(),
)
crowds = st.lists(st.tuples(experts, standings), max_size=9, unique_by=lambda each: each[0].id)


@given(requests, crowds, st.randoms(use_true_random=False))
def test_everybody_is_ranked_or_barred_and_the_order_of_asking_does_not_matter(
    request: Request, crowd: list[tuple[Expert, Standing]], shuffle: random.Random
) -> None:
    ranking = rank(request, crowd)
    ranked = [match.expert for match in ranking.matches]
    assert sorted([*ranked, *ranking.barred]) == sorted(expert.id for expert, _ in crowd)
    assert all(ranking.barred.values())
    scores = [match.score for match in ranking.matches]
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= value <= 1.0 for value in scores)
    mixed = list(crowd)
    shuffle.shuffle(mixed)
    assert rank(request, mixed) == ranking


def test_ties_go_to_the_least_load_then_the_longest_idle_then_the_id() -> None:
    # capacities make the free part equal while the load is not
    by_load = [
        (changed(id="a", capacity=4), Standing(True, 2, 1)),
        (changed(id="b", capacity=2), Standing(True, 1, 9)),
    ]
    assert [match.expert for match in rank(ASKS, by_load).matches] == ["b", "a"]
    by_idle = [(changed(id="a"), Standing(True, 1, 9)), (changed(id="b"), Standing(True, 1, 3))]
    assert [match.expert for match in rank(ASKS, by_idle).matches] == ["b", "a"]
    by_id = [(changed(id="b"), HERE), (changed(id="a"), HERE)]
    assert [match.expert for match in rank(ASKS, by_id).matches] == ["a", "b"]


def test_urgency_changes_who_is_asked() -> None:
    crowd = [
        (changed(id="close", capacity=5), Standing(True, 3, 0)),
        (changed(id="free", icd=(), title=Title.ATTENDING), Standing(True, 0, 0)),
    ]
    assert rank(ASKS, crowd).matches[0].expert == "close"
    grave = msgspec.structs.replace(ASKS, acuity=1)
    assert rank(grave, crowd).matches[0].expert == "free"


def test_urgency_changes_the_order_of_the_inbox() -> None:
    cases = [(3, 100, "a"), (None, 50, "b"), (2, 300, "c"), (1, 400, "d"), (4, 10, "e")]
    ordered = sorted(cases, key=lambda case: inbox_order(*case))
    assert [identity for *_, identity in ordered] == ["d", "c", "e", "b", "a"]
    assert [urgent(level) for level in (1, 2, 3, 4, None)] == [True, True, False, False, False]


def spread(crowd: list[Expert], requests_: int, lasts: int) -> dict[str, int]:
    """How often each is asked if a case is open for ``lasts`` requests."""
    load = dict.fromkeys((expert.id for expert in crowd), 0)
    asked, idle = dict(load), dict(load)
    done: list[str] = []
    for now in range(1, requests_ + 1):
        now_standing = ((e, Standing(True, load[e.id], idle[e.id])) for e in crowd)
        chosen = rank(ASKS, now_standing).matches[0].expert
        load[chosen] += 1
        asked[chosen] += 1
        idle[chosen] = now
        done.append(chosen)
        if len(done) > lasts:
            load[done.pop(0)] -= 1
    return asked


def test_a_thousand_requests_spread_evenly_over_equals() -> None:
    crowd = [changed(id=f"e-{n:02d}") for n in range(20)]
    asked = spread(crowd, 1000, 30)
    assert max(asked.values()) - min(asked.values()) <= 1


def test_a_thousand_requests_leave_nobody_idle_and_overload_nobody() -> None:
    grades = itertools.cycle(Title)
    crowd = [changed(id=f"e-{n:02d}", title=next(grades)) for n in range(20)]
    asked = spread(crowd, 1000, 60)
    assert min(asked.values()) >= 20
    assert max(asked.values()) <= 90
