"""Vital signs: units at the border, absence that stays absence, a state that no order changes."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import keepers, vitals
from lianzhen_protocol.bindings import Binding
from lianzhen_protocol.errors import ReadingError, RecordError
from lianzhen_protocol.people import By, Patient, Sex
from lianzhen_protocol.vitals import (
    MEANING,
    Absent,
    Measurement,
    Parameter,
    Reading,
    Vitals,
    VitalsReading,
    measured,
)
from support.memory_sheets import MemorySheets

NOW = 1_795_400_000_000
PATIENT, OTHER, DEVICE = "a" * 32, "b" * 32, "d" * 32
NODE = "n0000000001ab"
numbers = st.sampled_from([name for name in Parameter if not MEANING[name].codes])


@st.composite
def plausible(draw: st.DrawFn) -> Measurement:
    name = draw(st.sampled_from(Parameter))
    row = MEANING[name]
    if draw(st.booleans()):
        return vitals.failed(name, draw(st.sampled_from(Absent)))
    if row.codes:
        return vitals.coded(name, draw(st.sampled_from(row.codes)))
    return measured(name, draw(st.floats(row.low, row.high)), row.unit)


@st.composite
def readings(draw: st.DrawFn) -> list[Reading]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        at = NOW + draw(st.integers(0, 5)) * 1000
        found = draw(st.lists(plausible(), max_size=4, unique_by=lambda each: each.parameter))
        made.append(reading(f"{number:032x}", at, *found))
    return made


def reading(key: str, at: int, *found: Measurement, patient: str = PATIENT) -> Reading:
    body = VitalsReading(
        patient_id=patient,
        device_id=DEVICE,
        measurements=found,
        device_ms=at,
        sent_ms=at,
        received_ms=at,
        corrected_ms=at,
    )
    return Reading(id=key, node=NODE, patient_id=patient, body=body)


@pytest.mark.parametrize(
    ("parameter", "value", "unit", "found"),
    [
        (Parameter.TEMPERATURE, 98.6, "[degF]", 37.0),
        (Parameter.TEMPERATURE, 310.15, "K", 37.0),
        (Parameter.TEMPERATURE, 36.64, "Cel", 36.6),
        (Parameter.SYSTOLIC, 16.0, "kPa", 120.0),
        (Parameter.SPO2, 0.97, "1", 97.0),
        (Parameter.PULSE, 72, "{beats}/min", 72.0),
        (Parameter.PULSE, 1.2, "Hz", 72.0),
    ],
)
def test_units_are_converted_where_they_enter(
    parameter: Parameter, value: float, unit: str, found: float
) -> None:
    assert measured(parameter, value, unit).value == found


@pytest.mark.parametrize("unit", ["", "F", "°C", "mmHg", "degF", "{Cel}", "x" * 5000])
def test_a_unit_that_is_not_ucum_is_refused_and_told_what_to_send(unit: str) -> None:
    with pytest.raises(ReadingError, match=r"send it in Cel, \[degF\], K$") as refusal:
        measured(Parameter.TEMPERATURE, 36.6, unit)
    assert refusal.value.code == "unit-unknown"


@given(numbers, st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_kept_only_if_it_is_plausible(name: Parameter, value: float) -> None:
    row = MEANING[name]
    if not row.low - 0.05 <= value <= row.high + 0.05:  # true of NaN
        with pytest.raises(ReadingError) as refusal:
            measured(name, value, row.unit)
        assert refusal.value.code == "implausible"
    elif row.low <= value <= row.high:
        found = measured(name, value, row.unit).value
        assert found is not None
        assert row.low <= found <= row.high
        assert abs(found - value) <= 0.0500001


def test_a_code_is_one_of_the_list_and_no_number() -> None:
    assert vitals.coded(Parameter.CONSCIOUSNESS, "C").code == "C"
    with pytest.raises(ReadingError, match="A, C, V, P, U"):
        vitals.coded(Parameter.CONSCIOUSNESS, "X")
    with pytest.raises(ReadingError, match="not a number"):
        measured(Parameter.CONSCIOUSNESS, 1, "")
    with pytest.raises(ReadingError):
        vitals.coded(Parameter.PULSE, "A")


def test_every_parameter_has_its_row() -> None:
    assert set(MEANING) == set(Parameter)
    codes = [row.loinc for row in MEANING.values()]
    assert len(set(codes)) == len(codes)
    for code in codes:  # a LOINC code ends in its mod-10 check digit
        assert luhn(code.replace("-", "")), code


def luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits))]
    return sum(sum(divmod(each, 10)) for each in doubled) % 10 == 0


@given(readings(), st.randoms())
def test_the_order_in_which_readings_come_changes_nothing(
    found: list[Reading], chance: random.Random
) -> None:
    shuffled = chance.sample(found, len(found))
    one, two = vitals.state_of(PATIENT, found), vitals.state_of(PATIENT, shuffled)
    assert {key: (late.value, late.code, late.at_ms) for key, late in one.latest.items()} == {
        key: (late.value, late.code, late.at_ms) for key, late in two.latest.items()
    }
    assert one.heard_ms == two.heard_ms


@given(readings())
def test_absence_never_becomes_a_number_and_never_takes_one_away(found: list[Reading]) -> None:
    state = vitals.state_of(PATIENT, found)
    sent = {
        (each.parameter, each.value)
        for one in found
        for each in one.body.measurements
        if each.value is not None
    }
    assert {
        (name, late.value) for name, late in state.latest.items() if late.value is not None
    } <= sent
    assert {name for name, late in state.latest.items() if late.value is not None} == {
        name for name, _ in sent
    }


def test_a_sensor_that_fails_after_its_last_value_says_so() -> None:
    lost = reading("2" * 32, NOW + 1, vitals.failed(Parameter.SPO2))
    value = reading("1" * 32, NOW, measured(Parameter.SPO2, 97, "%"))
    found = vitals.state_of(PATIENT, [lost, value]).latest[Parameter.SPO2]
    assert (found.value, found.failing, found.absent) == (97, True, Absent.ERROR)
    again = vitals.folded(
        vitals.state_of(PATIENT, [lost, value]),
        reading("3" * 32, NOW + 2, measured(Parameter.SPO2, 96, "%")),
    )
    assert not again.latest[Parameter.SPO2].failing


# --- whose a reading is ---


def bound(sheets: MemorySheets, patient: str, from_ms: int, to_ms: int | None) -> None:
    binding = Binding(
        id=f"{from_ms:032x}",
        node=NODE,
        device=DEVICE,
        patient=patient,
        from_ms=from_ms,
        to_ms=to_ms,
        bound_by=By(account="1" * 32, name="王护士"),
    )
    sheets.put(binding)
    keepers.look_again(sheets, NODE, DEVICE, 0, NOW * 2)


def hear(sheets: MemorySheets, key: str, at: int, pulse: float) -> None:
    body = reading(key, at, measured(Parameter.PULSE, pulse, "/min"), patient="").body
    keepers.take_reading(sheets, key, body, NODE)


def pulse_of(sheets: MemorySheets, patient: str) -> float | None:
    state = sheets.get(Vitals, patient)
    found = state.latest.get(Parameter.PULSE) if state else None
    return found.value if found else None


def test_a_reading_that_is_given_to_another_patient_leaves_nothing_behind() -> None:
    sheets = MemorySheets()
    bound(sheets, PATIENT, NOW, None)
    hear(sheets, "1" * 32, NOW, 80)
    hear(sheets, "2" * 32, NOW + 10, 150)
    assert pulse_of(sheets, PATIENT) == 150

    bound(sheets, PATIENT, NOW, NOW + 5)  # cut short: the second is nobody's
    assert (pulse_of(sheets, PATIENT), pulse_of(sheets, DEVICE)) == (80, 150)
    assert [each.id for each in sheets.find(Reading, state="unassigned")] == ["2" * 32]

    bound(sheets, OTHER, NOW + 5, None)
    found = [pulse_of(sheets, each) for each in (PATIENT, OTHER, DEVICE)]
    assert found == [80, 150, None]


@given(
    st.permutations(range(9)),
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=3, max_size=3),
)
def test_bindings_and_readings_come_to_the_same_in_any_order(
    order: list[int], spans: list[tuple[int, bool]]
) -> None:
    """The hub hears of both on two streams, whose order between them is anybody's."""
    starts = sorted({start for start, _ in spans})
    ends = [*starts[1:], 9]
    deeds: list[tuple[str, int, int]] = [("hear", at, 0) for at in range(6)]
    deeds += [("bind", start, end) for start, end in zip(starts, ends, strict=True)]

    def come_to(sequence: list[tuple[str, int, int]]) -> dict[str, str]:
        sheets = MemorySheets()
        for deed, at, end in sequence:
            if deed == "hear":
                hear(sheets, f"{at:032x}", NOW + at, 60 + at)
            else:
                bound(sheets, f"{at:032x}", NOW + at, NOW + end)
        for state in sheets.find(Vitals):
            assert state == vitals.state_of(
                state.subject, sheets.find(Reading, owner=state.subject)
            )
        return {each.id: each.patient_id for each in sheets.find(Reading)}

    shuffled = [deeds[at] for at in order if at < len(deeds)]
    assert come_to(shuffled) == come_to(deeds)


def test_more_readings_than_a_page_are_all_found() -> None:
    sheets = MemorySheets()
    for at in range(2500):
        hear(sheets, f"{at:032x}", NOW + at // 2, 80)
    found = vitals.readings_of_device(sheets, NODE, DEVICE, NOW + 10, NOW + 1200)
    assert len({each.id for each in found}) == len(found) == 2380
    assert vitals.readings_of_device(sheets, "n0000000002cd", DEVICE, 0, NOW * 2) == []


def test_a_patient_of_another_clinic_is_refused() -> None:
    sheets = MemorySheets()
    sheets.put(
        Patient(
            id=PATIENT,
            node="n0000000002cd",
            number="100000018",
            name="张三",
            sex=Sex.MALE,
            registered_by=By(),
            registered_ms=1,
        )
    )
    body = msgspec.structs.replace(reading("1" * 32, NOW).body, device_id="")
    with pytest.raises(RecordError) as refusal:
        keepers.take_reading(sheets, "1" * 32, body, NODE)
    assert refusal.value.code == "patient-foreign"


@given(readings())
def test_a_reading_survives_its_bytes(found: list[Reading]) -> None:
    for one in found:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Reading) == one
        assert msgspec.json.decode(msgspec.json.encode(one), type=Reading) == one
