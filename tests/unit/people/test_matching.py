"""Matching: number and second identifier, never a name alone; every contradiction waits."""

from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import joins
from lianzhen_protocol.errors import PatientError
from lianzhen_protocol.joins import Claimed, Match, Reason
from lianzhen_protocol.people import Patient, Sex, new_number
from support.people import NODE, OTHER, a_number, a_patient, registered

BORN = date(1949, 12, 31)
RIGHT = Claimed(patient_id=a_number(1), name="王芳", birth_date=BORN, sex=Sex.FEMALE)


def slip(number: str) -> str:
    return number[:-1] + str((int(number[-1]) + 1) % 10)


def matched(claimed: Claimed, *patients: Patient) -> Match:
    return joins.match_study(registered(*patients or (a_patient(1),)), claimed, NODE)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": ""},
        {"birth_date": None},
        {"birth_date": None, "sex": Sex.UNKNOWN},
        {"name": "Wang^Fang"},
        {"name": "Wang^Fang=王^芳"},
        {"patient_id": f" {a_number(1)[:3]} {a_number(1)[3:]}"},
    ],
)
def test_number_and_second_identifier_join(changes: dict[str, object]) -> None:
    claimed = msgspec.structs.replace(RIGHT, **changes)
    assert matched(claimed) == Match(patient=a_patient(1).id)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patient_id": ""}, Reason.NO_NUMBER),
        ({"patient_id": "11010519491231002X"}, Reason.NO_PATIENT_NUMBER),
        ({"patient_id": "HIS-0042"}, Reason.NO_PATIENT_NUMBER),
        ({"patient_id": slip(a_number(1))}, Reason.NUMBER_SLIP),
        ({"patient_id": a_number(2)}, Reason.NUMBER_UNKNOWN),
        ({"birth_date": date(1949, 12, 30)}, Reason.BIRTH_DATE_DIFFERS),
        ({"sex": Sex.MALE}, Reason.SEX_DIFFERS),
        ({"name": "王方"}, Reason.NAME_DIFFERS),
        ({"name": "Wang^Fang=王^方"}, Reason.NAME_DIFFERS),
        ({"name": "", "birth_date": None}, Reason.SECOND_MISSING),
        ({"name": "Wang^Fang", "birth_date": None}, Reason.SECOND_MISSING),
    ],
)
def test_everything_else_waits_and_says_why(changes: dict[str, object], reason: Reason) -> None:
    claimed = msgspec.structs.replace(RIGHT, **changes)
    assert matched(claimed) == Match(reason=reason)


def test_the_number_of_another_clinic_is_nobodys_here() -> None:
    assert matched(RIGHT, a_patient(1, node=OTHER)) == Match(reason=Reason.NUMBER_UNKNOWN)


def test_a_name_that_every_patient_has_joins_nothing() -> None:
    claimed = Claimed(name="王芳", birth_date=BORN, sex=Sex.FEMALE)
    assert matched(claimed, *(a_patient(seed) for seed in range(1, 9))).patient == ""


claims = st.builds(
    Claimed,
    patient_id=st.sampled_from(["", "7", a_number(1), slip(a_number(1)), a_number(2), a_number(3)])
    | st.text(max_size=12),
    name=st.sampled_from(["", "王芳", "王^芳", "李强", "Wang^Fang", "Li^Qiang=李^强"]),
    birth_date=st.sampled_from([None, BORN, date(2001, 2, 3)]),
    sex=st.sampled_from(Sex),
)
PATIENTS = (a_patient(1), a_patient(2, name="李强", sex=Sex.MALE, birth_date=date(2001, 2, 3)))


@given(claims)
def test_what_joins_has_the_number_and_nothing_against_it(claimed: Claimed) -> None:
    found = matched(claimed, *PATIENTS)
    assert bool(found.patient) != bool(found.reason)
    for patient in PATIENTS:
        if found.patient == patient.id:
            assert claimed.patient_id == patient.number
            assert claimed.birth_date in (None, patient.birth_date)
            assert Sex.UNKNOWN in (claimed.sex, patient.sex) or claimed.sex is patient.sex
            named = joins.same_name(claimed.name, patient.name)
            assert named is not False
            assert named or claimed.birth_date == patient.birth_date


@given(st.binary(min_size=8, max_size=8), st.integers(0, 8), st.integers(1, 9))
def test_one_wrong_digit_at_the_scanner_joins_nobody(seed: bytes, at: int, by: int) -> None:
    number = new_number(seed)
    wrong = number[:at] + str((int(number[at]) + by) % 10) + number[at + 1 :]
    claimed = msgspec.structs.replace(RIGHT, patient_id=wrong)
    # Even with somebody else who has every other identifier alike.
    assert not matched(claimed, a_patient(1, number=number), a_patient(2)).patient


@pytest.mark.parametrize(
    ("text", "day"),
    [("19491231", BORN), (" 19491231 ", BORN), ("19490231", None), ("1949", None), ("", None)],
)
def test_a_birth_date_as_dicom_writes_it(text: str, day: date | None) -> None:
    assert Claimed.read("", "", text, "").birth_date == day


@pytest.mark.parametrize(("text", "sex"), [("F", "F"), ("m ", "M"), ("O", "U"), ("", "U")])
def test_a_sex_as_dicom_writes_it(text: str, sex: str) -> None:
    assert Claimed.read("", "", "", text).sex == sex


# -- two identifiers, by hand


@pytest.mark.parametrize("second", ["1949-12-31", "1949年12月31日", "19491231", "王 芳"])
def test_two_right_identifiers_confirm(second: str) -> None:
    joins.confirm(a_patient(1), a_number(1), second)


@pytest.mark.parametrize(
    ("number", "second", "code"),
    [
        (a_number(2), "王芳", "confirm-number"),
        (slip(a_number(1)), "王芳", "patient-number-check"),
        ("", "王芳", "patient-number-form"),
        (a_number(1), "", "confirm-second"),
        (a_number(1), "1949-12-30", "confirm-second"),
        (a_number(1), "王方", "confirm-second"),
    ],
)
def test_one_identifier_is_not_enough(number: str, second: str, code: str) -> None:
    with pytest.raises(PatientError) as caught:
        joins.confirm(a_patient(1), number, second)
    assert caught.value.code == code
