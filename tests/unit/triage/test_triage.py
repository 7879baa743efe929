"""What is suggested, what a clinician may make of it, and that both sides agree."""

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lianzhen_edge.triage
from lianzhen_protocol import acuity, kinds, records, triage, vitals
from lianzhen_protocol.acuity import Level
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.identity import uuid7
from lianzhen_protocol.news2 import Exempt, Sign
from lianzhen_protocol.triage import (
    Abstained,
    Clinician,
    Forecast,
    Observed,
    Silence,
    SpO2ScaleSet,
    Subject,
    TriageDecided,
    TriageSuggested,
    TriageSuggestion,
    Verdict,
    observe,
    proposes_draft,
    says_more,
    suggest,
)
from lianzhen_protocol.vitals import Absent, Latest, Parameter, Vitals
from support.memory_sheets import MemorySheets

FOLDER = Path(lianzhen_edge.triage.__file__).parent
TABLE = acuity.load(tomllib.loads((FOLDER / "acuity.toml").read_text(encoding="utf-8")))
NOW = 1_795_400_000_000
HOUR = 3_600_000
PATIENT, OTHER = "a" * 32, "b" * 32
NURSE = Clinician(account="c" * 32, name="王护士")
ADULT = Subject(patient_id=PATIENT, age_years=70, pregnant=False)
RAISED = Forecast(model="m 1.0", sha256="00", probability=0.4, threshold=0.2)
AWAY = Forecast(silence=(Silence(code=Abstained.MODEL_AWAY),))
WELL: dict[Parameter, float | str] = {
    Parameter.RESPIRATION: 16,
    Parameter.SPO2: 97,
    Parameter.OXYGEN: 0,
    Parameter.SYSTOLIC: 120,
    Parameter.PULSE: 70,
    Parameter.CONSCIOUSNESS: "A",
    Parameter.TEMPERATURE: 37.0,
}


def state(at_ms: int = NOW, /, **changes: float | str | None) -> Vitals:
    values = WELL | {Parameter(name): value for name, value in changes.items()}
    latest = {
        parameter: Latest(
            code=value if isinstance(value, str) else "",
            value=None if isinstance(value, str) else value,
            at_ms=at_ms,
            reading_id="d" * 32,
        )
        for parameter, value in values.items()
        if value is not None
    }
    return Vitals(subject=PATIENT, latest=latest, heard_ms=at_ms)


def suggestion(
    of: Vitals | Observed | None = None,
    subject: Subject = ADULT,
    forecast: Forecast | None = AWAY,
    identity: str = "1" * 32,
    at_ms: int = NOW,
) -> TriageSuggested:
    observed = of if isinstance(of, Observed) else observe(of or state(), at_ms)
    return suggest(subject, observed, forecast, TABLE, suggestion_id=identity, at_ms=at_ms)


def decision(
    verdict: Verdict, level: Level, why: str = "", identity: str = "1" * 32
) -> TriageDecided:
    return TriageDecided(
        suggestion_id=identity,
        patient_id=PATIENT,
        verdict=verdict,
        level=level,
        by=NURSE,
        why=why,
        at_ms=NOW + 1000,
    )


# -- what is seen


def test_a_whole_set_is_seen_with_its_sources() -> None:
    found = observe(state(oxygen=2.0), NOW)
    assert found.vitals.oxygen is True
    assert [item.sign for item in found.seen] == list(Sign)
    assert {item.reading_id for item in found.seen} == {"d" * 32}
    assert {item.sign: item.value for item in found.seen}[Sign.CONSCIOUSNESS] == "A"
    assert found.unused == ()


def test_room_air_is_no_oxygen() -> None:
    assert observe(state(oxygen=0), NOW).vitals.oxygen is False


def test_a_value_that_no_longer_speaks_for_the_present_does_not_count() -> None:
    found = observe(state(NOW - 2 * HOUR), NOW)
    assert {item.sign for item in found.unused} == {Sign.RESPIRATION, Sign.SPO2, Sign.PULSE}
    assert {item.why for item in found.unused} == {"stale"}
    assert found.vitals.spo2 is None
    assert found.vitals.systolic == 120


def test_a_sensor_that_fails_since_its_last_value_does_not_count() -> None:
    failing = state()
    latest = msgspec.structs.replace(
        failing.latest[Parameter.SPO2], absent=Absent.ERROR, absent_ms=NOW + 1
    )
    failing = msgspec.structs.replace(failing, latest=failing.latest | {Parameter.SPO2: latest})
    found = observe(failing, NOW + 1)
    assert [(item.sign, item.why) for item in found.unused] == [(Sign.SPO2, "failing")]
    assert suggestion(found).level is None


@pytest.mark.parametrize("changes", [{"pulse": 500.0}, {"consciousness": "Z"}, {"spo2": "A"}])
def test_what_cannot_be_is_not_seen(changes: dict[str, float | str]) -> None:
    found = observe(state(**changes), NOW)
    assert [item.why for item in found.unused] == ["impossible"]


def test_nobody_measured_anything() -> None:
    made = suggestion(observe(None, NOW))
    assert made.level is None
    assert made.news2 is not None
    assert made.news2.total is None
    assert len(made.news2.missing) == 7


# -- what is suggested


def test_a_well_adult_is_non_urgent() -> None:
    made = suggestion()
    assert (made.level, made.exempt) == (Level.NON_URGENT, None)


@pytest.mark.parametrize(
    ("subject", "exempt"),
    [
        (Subject(patient_id=PATIENT, age_years=15, pregnant=None), Exempt.UNDER_16),
        (Subject(patient_id=PATIENT, age_years=30, pregnant=True), Exempt.PREGNANT),
    ],
)
def test_who_is_not_scored_gets_no_number_at_all(subject: Subject, exempt: Exempt) -> None:
    made = suggestion(state(pulse=190.0), subject, RAISED)
    assert made.exempt is exempt
    assert (made.news2, made.forecast, made.acuity, made.level) == (None, None, None, None)


def test_the_learned_score_raises_and_never_lowers() -> None:
    assert suggestion(forecast=RAISED).level is Level.SEMI_URGENT
    low = msgspec.structs.replace(RAISED, probability=0.0)
    assert suggestion(state(pulse=190.0), forecast=low).level is Level.IMMEDIATE


@pytest.mark.parametrize(
    ("probability", "threshold", "raised"),
    [(0.2, 0.2, True), (0.19, 0.2, False), (None, 0.2, False), (0.9, None, False)],
)
def test_the_threshold_itself_counts(
    probability: float | None, threshold: float | None, raised: bool
) -> None:
    assert Forecast(probability=probability, threshold=threshold).raised is raised


def test_it_speaks_again_when_it_has_something_to_say() -> None:
    first = suggestion()
    assert not says_more(suggestion(state(pulse=72.0), at_ms=NOW + 1000), first)
    assert says_more(suggestion(state(pulse=120.0), at_ms=NOW + 1000), first)
    assert says_more(suggestion(state(spo2=None), at_ms=NOW + 1000), first)
    assert says_more(suggestion(forecast=RAISED, at_ms=NOW + 1000), first)
    assert says_more(suggestion(at_ms=NOW + HOUR), first)


@pytest.mark.parametrize(("level", "proposed"), [(1, True), (2, True), (3, False), (4, False)])
def test_only_urgent_levels_propose_a_draft(level: int, proposed: bool) -> None:
    assert proposes_draft(Level(level)) is proposed
    assert not proposes_draft(None)


# -- what becomes of it


@pytest.fixture
def sheets() -> MemorySheets:
    made = MemorySheets()
    triage.apply(made, suggestion())
    return made


def shown(sheets: MemorySheets, identity: str = "1" * 32) -> TriageSuggestion:
    found = sheets.get(TriageSuggestion, identity)
    assert found is not None
    return found


def refused(sheets: MemorySheets, body: TriageDecided | SpO2ScaleSet) -> str:
    with pytest.raises(RecordError) as error:
        triage.apply(sheets, body)
    return error.value.code


def test_a_named_clinician_accepts(sheets: MemorySheets) -> None:
    said = decision(Verdict.ACCEPTED, Level.NON_URGENT)
    triage.apply(sheets, said)
    triage.apply(sheets, said)  # a record that comes twice
    assert shown(sheets).state == "accepted"
    assert triage.accepted_level(sheets, PATIENT) == said


def test_a_named_clinician_overrides_with_a_reason(sheets: MemorySheets) -> None:
    triage.apply(sheets, decision(Verdict.OVERRIDDEN, Level.URGENT, "胸痛, 大汗"))
    assert shown(sheets).state == "overridden"
    assert shown(sheets).index().state == "overridden"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (decision(Verdict.OVERRIDDEN, Level.URGENT), "triage-why"),
        (decision(Verdict.OVERRIDDEN, Level.URGENT, "  "), "triage-why"),
        (decision(Verdict.OVERRIDDEN, Level.URGENT, "x" * 401), "triage-why"),
        (decision(Verdict.ACCEPTED, Level.URGENT), "triage-level"),
        (decision(Verdict.ACCEPTED, Level.NON_URGENT, identity="2" * 32), "triage-unknown"),
    ],
)
def test_what_is_no_decision_says_why(sheets: MemorySheets, body: TriageDecided, code: str) -> None:
    assert refused(sheets, body) == code
    assert shown(sheets).state == "suggested"


def test_a_decision_has_a_name_and_is_for_this_patient(sheets: MemorySheets) -> None:
    good = decision(Verdict.ACCEPTED, Level.NON_URGENT)
    nobody = Clinician(account="", name="")
    assert refused(sheets, msgspec.structs.replace(good, by=nobody)) == "unnamed"
    assert refused(sheets, msgspec.structs.replace(good, patient_id=OTHER)) == "triage-unknown"


def test_a_suggestion_is_decided_once(sheets: MemorySheets) -> None:
    triage.apply(sheets, decision(Verdict.ACCEPTED, Level.NON_URGENT))
    again = decision(Verdict.OVERRIDDEN, Level.URGENT, "later")
    assert refused(sheets, again) == "triage-decided"


def test_a_newer_suggestion_takes_the_place_of_one_that_waits(sheets: MemorySheets) -> None:
    triage.apply(sheets, suggestion(state(pulse=190.0), identity="2" * 32, at_ms=NOW + 5))
    assert shown(sheets).state == "superseded"
    assert refused(sheets, decision(Verdict.ACCEPTED, Level.NON_URGENT)) == "triage-decided"
    newest = triage.newest(sheets, PATIENT)
    assert newest is not None
    assert newest.suggested.level is Level.IMMEDIATE
    triage.apply(sheets, suggestion())  # the first one comes again
    assert shown(sheets, "2" * 32).state == "suggested"


def test_nobody_can_accept_a_level_that_was_not_suggested() -> None:
    sheets = MemorySheets()
    triage.apply(sheets, suggestion(observe(None, NOW)))
    for level in Level:
        assert refused(sheets, decision(Verdict.ACCEPTED, level)) == "triage-level"
    triage.apply(sheets, decision(Verdict.OVERRIDDEN, Level.SEMI_URGENT, "looks ill"))


def test_the_second_scale_is_set_by_name_and_reason() -> None:
    sheets = MemorySheets()
    assert triage.scale_of(sheets, PATIENT) == 1
    said = SpO2ScaleSet(patient_id=PATIENT, scale=2, by=NURSE, why="COPD", at_ms=NOW)
    assert refused(sheets, msgspec.structs.replace(said, why=" ")) == "unnamed"
    triage.apply(sheets, said)
    triage.apply(sheets, msgspec.structs.replace(said, scale=1, at_ms=NOW - 1))  # an older one
    assert triage.scale_of(sheets, PATIENT) == 2
    low = suggestion(state(spo2=89.0), msgspec.structs.replace(ADULT, scale=2))
    assert low.level is Level.NON_URGENT


def test_a_record_of_something_else_is_refused() -> None:
    with pytest.raises(RecordError):
        triage.apply(MemorySheets(), vitals.VitalsReading(
            patient_id="", measurements=(), device_ms=0, sent_ms=0, received_ms=0, corrected_ms=0
        ))  # fmt: skip


@given(st.floats(20, 300), st.none() | st.floats(50, 100), st.sampled_from([RAISED, AWAY]))
def test_records_of_triage_survive_the_wire(
    pulse: float, spo2: float | None, forecast: Forecast
) -> None:
    body = suggestion(state(pulse=pulse, spo2=spo2), forecast=forecast)
    wire = kinds.encode(body, uuid7(NOW, bytes(10)), NOW)
    assert kinds.open_body(records.decode(wire)) == body
