"""Alarms: none is missed, none rings twice for the same, none ends unheard."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import alarms, news2, vitals
from lianzhen_protocol.alarms import (
    EASE_MS,
    Alarm,
    AlarmAcknowledged,
    AlarmEnded,
    AlarmLowered,
    AlarmRaised,
    AlarmState,
    Condition,
    Danger,
    Ease,
    End,
    EndReason,
    Lower,
    Raise,
    Severity,
    judge,
)
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.people import By
from lianzhen_protocol.vitals import Parameter, Reading, VitalsReading, measured
from support.memory_sheets import MemorySheets

NOW = 1_795_400_000_000
PATIENT, NODE = "a" * 32, "n0000000001ab"
URGENT = Danger(Severity.URGENT, ("spo2",))
EMERGENCY = Danger(Severity.EMERGENCY, ("total", "spo2"))


class Ward:
    """Judges dangers one after another as the box does, on real records' meanings."""

    def __init__(self) -> None:
        self.sheets = MemorySheets()
        self.now = NOW
        self.rung: list[Danger] = []

    @property
    def active(self) -> Alarm | None:
        return alarms.active_alarm(self.sheets, Condition.NEWS2, PATIENT)

    def feel(self, found: Danger | None, after_ms: int = 1000) -> None:
        self.now += after_ms
        active = self.active
        match judge(active, found, self.now):
            case Raise(severity, causes):
                self.rung.append(Danger(severity, causes))
                self.ring(severity, causes, active.id if active else "")
            case Lower(severity, causes):
                assert active
                lowered = AlarmLowered(
                    alarm_id=active.id, severity=severity, causes=causes, at_ms=self.now
                )
                alarms.take_lowered(self.sheets, lowered)
            case End():
                assert active
                ended = AlarmEnded(alarm_id=active.id, reason=EndReason.OVER, at_ms=self.now)
                alarms.take_ended(self.sheets, ended)
            case Ease(since):
                assert active
                self.sheets.put(alarms.eased(active, since))
            case None:
                pass

    def ring(self, severity: Severity, causes: tuple[str, ...], replaces: str) -> None:
        body = AlarmRaised(
            condition=Condition.NEWS2,
            severity=severity,
            causes=causes,
            patient_id=PATIENT,
            measured_ms=self.now,
            raised_ms=self.now,
            replaces=replaces,
        )
        alarms.take_raised(self.sheets, f"{len(self.rung):032x}", body)

    def acknowledge(self) -> None:
        active = self.active
        if active is not None:
            body = AlarmAcknowledged(
                alarm_id=active.id, by=By(account="1" * 32, name="王护士"), at_ms=self.now
            )
            alarms.take_acknowledged(self.sheets, body)


def test_the_same_danger_rings_once_also_after_it_was_heard() -> None:
    ward = Ward()
    for _ in range(5):
        ward.feel(URGENT)
    ward.acknowledge()
    for _ in range(1000):
        ward.feel(URGENT)
    assert ward.rung == [URGENT]


def test_a_graver_danger_rings_again_and_replaces() -> None:
    ward = Ward()
    ward.feel(URGENT)
    ward.acknowledge()
    ward.feel(EMERGENCY)
    assert ward.rung[-1].severity is Severity.EMERGENCY
    states = [each.state for each in ward.sheets.find(Alarm)]
    assert states == [AlarmState.ENDED, AlarmState.RINGING]
    assert ward.sheets.find(Alarm)[0].end_reason is EndReason.REPLACED


def test_another_red_sign_rings_again() -> None:
    ward = Ward()
    ward.feel(URGENT)
    ward.acknowledge()
    ward.feel(Danger(Severity.URGENT, ("pulse",)))
    assert ward.rung[-1] == Danger(Severity.URGENT, ("spo2", "pulse"))
    ward.feel(URGENT)
    assert len(ward.rung) == 2


def test_a_danger_that_passed_unheard_still_rings() -> None:
    ward = Ward()
    ward.feel(URGENT)
    for _ in range(10):
        ward.feel(None, EASE_MS)
    assert ward.active is not None
    assert ward.active.state is AlarmState.RINGING
    ward.acknowledge()
    ward.feel(None)
    ward.feel(None, EASE_MS)
    assert ward.active is None


def test_values_that_flutter_ring_once_and_ones_that_return_ring_again() -> None:
    ward = Ward()
    ward.feel(EMERGENCY)
    ward.acknowledge()
    for _ in range(20):
        ward.feel(URGENT, EASE_MS - 2000)
        ward.feel(EMERGENCY)
    assert len(ward.rung) == 1
    ward.feel(URGENT)
    ward.feel(URGENT, EASE_MS)  # less for a while: now it counts as less
    ward.feel(EMERGENCY)
    assert len(ward.rung) == 2


dangers = st.none() | st.builds(
    Danger,
    st.sampled_from([Severity.URGENT, Severity.EMERGENCY]),
    st.sets(st.sampled_from(["total", "spo2", "pulse"]), min_size=1).map(
        lambda found: tuple(sorted(found))
    ),
)
steps = st.lists(
    st.tuples(dangers, st.sampled_from([1000, 60_000, EASE_MS]), st.booleans()), max_size=40
)


@given(steps)
def test_whatever_happens_no_danger_goes_unrung_and_none_rings_twice(
    found: list[tuple[Danger | None, int, bool]],
) -> None:
    ward = Ward()
    for danger, after, heard in found:
        before, rung = ward.active, len(ward.rung)
        ward.feel(danger, after)
        active = ward.active
        if danger is not None:
            assert active is not None
            assert active.severity.rank >= danger.severity.rank
            assert set(danger.causes) <= set(active.causes)
        if before is not None and len(ward.rung) > rung:  # it rang again: for something new
            assert danger is not None
            assert danger.severity.rank > before.severity.rank or not set(danger.causes) <= set(
                before.causes
            )
        if before is not None and not before.acknowledged_ms:
            assert active is not None
            assert active.severity.rank >= before.severity.rank
        if heard:
            ward.acknowledge()
    unended = [each for each in ward.sheets.find(Alarm) if each.state is not AlarmState.ENDED]
    assert len(unended) <= 1
    assert all(
        each.acknowledged_ms or each.end_reason is EndReason.REPLACED
        for each in ward.sheets.find(Alarm)
        if each.ended_ms
    )


def test_the_first_acknowledgement_counts() -> None:
    ward = Ward()
    ward.feel(URGENT)
    ward.acknowledge()
    first = ward.active
    ward.now += 5000
    ward.acknowledge()
    assert ward.active == first
    assert first is not None
    assert first.acknowledged_by == By(account="1" * 32, name="王护士")


def test_words_on_an_alarm_that_nobody_raised_are_refused() -> None:
    with pytest.raises(RecordError) as refusal:
        alarms.take_ended(
            MemorySheets(), AlarmEnded(alarm_id="9" * 32, reason=EndReason.OVER, at_ms=1)
        )
    assert refusal.value.code == "alarm-unknown"


# --- from values to danger ---


def danger_of(values: Mapping[str, float], now: int = NOW) -> Danger | None:
    found = tuple(
        measured(Parameter(name), value, vitals.MEANING[Parameter(name)].unit)
        for name, value in values.items()
    )
    body = VitalsReading(
        patient_id=PATIENT,
        measurements=found,
        device_ms=NOW,
        sent_ms=NOW,
        received_ms=NOW,
        corrected_ms=NOW,
    )
    state = vitals.state_of(
        PATIENT, [Reading(id="1" * 32, node=NODE, patient_id=PATIENT, body=body)]
    )
    return alarms.danger(alarms.scored(state, now))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"spo2": 97, "pulse": 80}, None),
        ({"spo2": 92, "pulse": 115}, None),  # 4, and incomplete
        ({"spo2": 91}, Danger(Severity.URGENT, ("spo2",))),
        ({"spo2": 93, "pulse": 115, "respiration": 10}, Danger(Severity.URGENT, ("total",))),
        ({"spo2": 88, "pulse": 140}, Danger(Severity.URGENT, ("total", "spo2", "pulse"))),
        (
            {"spo2": 93, "oxygen": 2, "pulse": 115, "temperature": 38.5},
            Danger(Severity.EMERGENCY, ("total",)),
        ),
    ],
)
def test_thresholds_of_news2(values: dict[str, float], found: Danger | None) -> None:
    assert danger_of(values) == found


def test_what_is_old_is_missing_and_not_well() -> None:
    assert danger_of({"spo2": 85}, NOW + 3_600_000) == Danger(Severity.URGENT, ("spo2",))
    assert danger_of({"spo2": 85}, NOW + 3_600_001) is None
    score = alarms.scored(vitals.Vitals(subject=PATIENT), NOW)
    assert not score.complete
    assert set(score.missing) == set(news2.Sign)


def test_silence_is_the_lowest_alarm() -> None:
    assert alarms.silent(NOW, NOW + alarms.SILENT_MS - 1) is None
    assert alarms.silent(NOW, NOW + alarms.SILENT_MS) == alarms.SILENCE
    assert min(Severity, key=lambda each: each.rank) is alarms.SILENCE.severity
