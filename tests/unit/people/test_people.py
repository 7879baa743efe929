"""Patients: numbers that show a slip, what cannot be, duplicates, links that can be undone."""

from datetime import date, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import people
from lianzhen_protocol.errors import PatientError
from lianzhen_protocol.people import (
    Patient,
    PatientCorrected,
    PatientLinked,
    PatientRegistered,
    PatientUnlinked,
    Sex,
)
from support.people import (
    NODE,
    NOW_MS,
    NURSE,
    OTHER,
    a_number,
    a_patient,
    an_id,
    everything,
    registered,
)

CARD: dict[str, Any] = {
    "id_number": "11010519491231002X",
    "birth_date": date(1949, 12, 31),
    "sex": Sex.FEMALE,
}
TEMPORARY: dict[str, Any] = {
    "name": "无名氏 1",
    "sex": Sex.UNKNOWN,
    "birth_date": None,
    "temporary": True,
}
randoms = st.binary(min_size=8, max_size=8)
days = st.dates(date(1900, 1, 1), date(2100, 12, 31))


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(PatientError) as caught:
        call(*arguments)
    return caught.value.code


# -- the patient number


@given(randoms)
def test_a_new_number_is_nine_digits_and_right(random: bytes) -> None:
    number = people.new_number(random)
    assert people.patient_number(people.number_text(number)) == number
    assert len(number) == 9
    assert number[0] != "0"


@given(randoms, st.integers(0, 8), st.integers(1, 9))
def test_every_single_wrong_digit_is_found(random: bytes, at: int, by: int) -> None:
    number = people.new_number(random)
    wrong = number[:at] + str((int(number[at]) + by) % 10) + number[at + 1 :]
    assert code_of(people.patient_number, wrong).startswith("patient-number-")


@given(randoms, st.integers(0, 7))
def test_every_swap_of_neighbours_is_found(random: bytes, at: int) -> None:
    number = people.new_number(random)
    swapped = number[:at] + number[at + 1] + number[at] + number[at + 2 :]
    if swapped != number:
        assert code_of(people.patient_number, swapped).startswith("patient-number-")


@pytest.mark.parametrize("text", ["", "12345678", "1234567890", "012345678", "12345678X", "张三"])
def test_what_has_not_the_form_of_a_number(text: str) -> None:
    assert code_of(people.patient_number, text) == "patient-number-form"


def test_a_number_needs_enough_chance() -> None:
    with pytest.raises(ValueError, match="8 random bytes"):
        people.new_number(bytes(7))


# -- days and ages


@given(days, days)
def test_an_age_is_the_number_of_birthdays_since(born: date, day: date) -> None:
    if day < born:
        born, day = day, born
    birthdays = sum(
        1
        for year in range(born.year + 1, day.year + 1)
        # Who was born on 29 February is older on 1 March of a common year.
        if (date(year, born.month, 1) + timedelta(born.day - 1)) <= day
    )
    assert people.age_on(born, day) == birthdays
    assert people.months_on(born, day) // 12 == birthdays


def test_the_day_at_the_clinic_begins_at_sixteen_hours_utc() -> None:
    midnight = 1_795_363_200_000  # 2026-11-22T16:00:00Z
    assert people.china_day(midnight) - people.china_day(midnight - 1) == timedelta(days=1)


# -- names, and what need not be known


@pytest.mark.parametrize(
    ("one", "other"),
    [("王 芳", "王芳"), ("WANG^FANG", "Wang Fang"), ("阿依古丽·买买提", "阿依古丽买买提")],
)
def test_spellings_of_one_name(one: str, other: str) -> None:
    assert people.folded_name(one) == people.folded_name(other)


def test_a_name_is_kept_in_one_form() -> None:
    assert people.clean_name("  王　芳 ") == "王 芳"
    assert code_of(people.clean_name, " ") == "name-missing"
    for text in ("王^芳", "王=芳", "王\\芳", "王\x00芳", "王" * 65):
        assert code_of(people.clean_name, text) == "name-form"


def test_a_masked_patient_tells_nobody_who_it_is() -> None:
    patient = a_patient(**CARD, phone="13800001234")
    text = msgspec.json.encode(people.masked(patient)).decode()
    hidden = (
        "芳",
        "19491231",
        "1949-12-31",
        patient.phone[:7],
        patient.number[:6],
        patient.id_number,
    )
    assert not [part for part in hidden if part and part in text.replace(patient.id, "")]
    assert "王*" in text
    assert "1234" in text
    assert people.masked(a_patient(birth_date=None)).id_number is None


# -- what can be so


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"id": "x"}, "patient-malformed"),
        ({"number": "123456789"}, "patient-number-check"),
        ({"number": people.number_text(a_number(1))}, "patient-number-form"),
        ({"name": " 王芳"}, "name-form"),
        ({"name": ""}, "name-missing"),
        ({"phone": "call me"}, "phone-form"),
        ({"sex": Sex.MALE, "pregnant": True}, "pregnant-man"),
        ({"birth_date": date(2026, 11, 25)}, "birth-date"),
        ({"birth_date": date(1880, 1, 1)}, "birth-date"),
        ({"birth_date": None}, "birth-date-missing"),
        ({**CARD, "id_number": "110105194912310021"}, "id-number-check"),
        ({**CARD, "id_number": "11010519491231002x"}, "id-number-form"),
        ({**CARD, "birth_date": date(1949, 12, 30)}, "birth-date-differs"),
        ({**CARD, "sex": Sex.MALE}, "sex-differs"),
        ({**CARD, "sex": Sex.UNKNOWN}, "sex-differs"),
        ({**CARD, "temporary": True}, "temporary-known"),
        ({"linked_to": an_id(7)}, "patient-fixed"),
        ({"node": OTHER}, "patient-foreign"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], code: str) -> None:
    patient = a_patient(**changes)
    sheets = registered()
    news = PatientRegistered(patient=patient)
    assert code_of(people.register, sheets, news, NOW_MS, NODE) == code
    assert everything(sheets) == {}


def test_a_known_person_and_an_unknown_one_are_registered() -> None:
    known, unknown = a_patient(1, **CARD), a_patient(2, **TEMPORARY)
    sheets = registered(known, unknown)
    assert sheets.get(Patient, known.id) == known
    assert [each.index().state for each in sheets.find(Patient)] == ["registered", "temporary"]
    assert known.age_on(date(2026, 12, 30)) == 76
    assert unknown.age_on(date(2026, 12, 30)) is None


# -- one person, one sheet of a clinic


def test_the_same_id_number_or_number_twice_is_refused() -> None:
    sheets = registered(a_patient(1, **CARD))
    for changes, code in (
        ({**CARD}, "id-number-taken"),
        ({"number": a_number(1)}, "patient-number-taken"),
        ({"id": an_id(1)}, "patient-known"),
    ):
        news = PatientRegistered(patient=a_patient(2, **changes))
        assert code_of(people.register, sheets, news, NOW_MS, NODE) == code


def test_two_clinics_know_one_person_by_two_sheets_that_find_each_other() -> None:
    here, there = a_patient(1, **CARD), a_patient(2, **CARD, node=OTHER, name="汪芳")
    sheets = registered(here, there, a_patient(3))
    assert people.same_person(sheets, here) == [there]
    assert people.same_person(sheets, there) == [here]
    assert people.same_person(sheets, a_patient(3)) == []
    assert {each.name for each in sheets.find(Patient)} == {"王芳", "汪芳"}


# -- corrections


def test_a_correction_replaces_and_keeps_what_is_fixed() -> None:
    patient = a_patient(1, **TEMPORARY)
    sheets = registered(patient, a_patient(2))
    better = msgspec.structs.replace(patient, name="王芳", temporary=False, **CARD)
    people.correct(sheets, PatientCorrected(patient=better, by=NURSE, why="醒了"), NOW_MS, NODE)
    assert sheets.get(Patient, patient.id) == better
    assert people.by_id_number(sheets, CARD["id_number"]) == [better]
    for changes, code in (
        ({"number": a_number(9)}, "patient-fixed"),
        ({"registered_ms": 1}, "patient-fixed"),
        ({"linked_to": an_id(2)}, "patient-fixed"),
        ({"id": an_id(9)}, "patient-unknown"),
        ({"id_number": None, "temporary": True}, "patient-fixed"),
    ):
        wrong = msgspec.structs.replace(better, **changes)
        body = PatientCorrected(patient=wrong, by=NURSE, why="")
        assert code_of(people.correct, sheets, body, NOW_MS, NODE) == code
    body = PatientCorrected(patient=better, by=NURSE, why="")
    assert code_of(people.correct, sheets, body, NOW_MS, OTHER) == "patient-foreign"


# -- links


def test_a_link_and_its_undoing_leave_everything_as_it_was() -> None:
    known, unknown = a_patient(1, **CARD), a_patient(2, **TEMPORARY)
    sheets = registered(known, unknown)
    before = everything(sheets)
    body = PatientLinked(temporary=unknown.id, known=known.id, by=NURSE, why="家属认出")
    people.link(sheets, body, NODE)
    assert people.whole(sheets, known.id) == (known.id, unknown.id)
    linked = sheets.get(Patient, unknown.id)
    assert linked is not None
    assert linked.index().state == "linked"
    assert code_of(people.link, sheets, body, NODE) == "link-twice"
    people.unlink(sheets, PatientUnlinked(temporary=unknown.id, by=NURSE, why="不是"), NODE)
    assert everything(sheets) == before
    undo = PatientUnlinked(temporary=unknown.id, by=NURSE, why="")
    assert code_of(people.unlink, sheets, undo, NODE) == "link-none"


@pytest.mark.parametrize(
    ("temporary", "known", "code"),
    [
        (1, 2, "link-known"),
        (3, 3, "link-to-temporary"),
        (3, 4, "link-to-temporary"),
        (5, 1, "link-contradiction"),
        (6, 1, "link-contradiction"),
        (3, 9, "patient-unknown"),
        (3, 7, "patient-foreign"),
    ],
)
def test_what_cannot_be_linked(temporary: int, known: int, code: str) -> None:
    sheets = registered(
        a_patient(1),
        a_patient(2),
        a_patient(3, **TEMPORARY),
        a_patient(4, **TEMPORARY),
        a_patient(5, **{**TEMPORARY, "sex": Sex.MALE}),
        a_patient(6, **{**TEMPORARY, "birth_date": date(1950, 1, 1)}),
        a_patient(7, node=OTHER),
    )
    before = everything(sheets)
    body = PatientLinked(temporary=an_id(temporary), known=an_id(known), by=NURSE, why="")
    assert code_of(people.link, sheets, body, NODE) == code
    assert everything(sheets) == before
