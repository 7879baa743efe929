"""ID numbers: the standard's own example, every slip of one digit, dates and regions."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianzhen_protocol import gb11643
from lianzhen_protocol.errors import PatientError

EXAMPLE = "11010519491231002X"
"""GB 11643-1999, annex; https://en.wikipedia.org/wiki/Resident_Identity_Card shows it too."""

days = st.dates(date(1900, 1, 1), date(2026, 12, 31))
regions = st.sampled_from(("110105", "520302", "650102", "810000", "911156"))


@st.composite
def numbers(draw: st.DrawFn) -> str:
    digits = f"{draw(regions)}{draw(days):%Y%m%d}{draw(st.integers(0, 999)):03d}"
    return digits + gb11643.check_character(digits)


def test_the_example_of_the_standard() -> None:
    assert gb11643.parse(EXAMPLE) == (EXAMPLE, date(1949, 12, 31), False)
    assert gb11643.parse("440524188001010014").male


@given(numbers(), st.integers(0, 16), st.integers(1, 9))
def test_every_single_wrong_digit_is_found(number: str, at: int, by: int) -> None:
    wrong = number[:at] + str((int(number[at]) + by) % 10) + number[at + 1 :]
    with pytest.raises(PatientError) as caught:
        gb11643.parse(wrong)
    assert caught.value.code == "id-number-check"


@given(numbers(), st.integers(0, 15))
def test_every_swap_of_neighbours_is_found(number: str, at: int) -> None:
    swapped = number[:at] + number[at + 1] + number[at] + number[at + 2 :]
    if swapped != number:
        with pytest.raises(PatientError):
            gb11643.parse(swapped)


@given(numbers())
def test_a_right_number_says_when_its_bearer_was_born(number: str) -> None:
    found = gb11643.parse(number)
    assert found.text == number
    assert f"{found.birth_date:%Y%m%d}" == number[6:14]
    assert found.male == (number[16] in "13579")


def test_it_is_read_however_a_person_types_it() -> None:
    assert gb11643.parse(" 110105 19491231 002x ").text == EXAMPLE
    assert gb11643.parse("１１０１０５１９４９１２３１００２Ｘ").text == EXAMPLE


def forged(digits: str) -> str:
    return digits + gb11643.check_character(digits)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "id-number-form"),
        ("张三", "id-number-form"),
        (EXAMPLE + "1", "id-number-form"),
        ("X" + EXAMPLE[1:], "id-number-form"),
        ("130503670401001", "id-number-old"),
        (EXAMPLE[:-1] + "1", "id-number-check"),
        (forged("99" * 3 + "19000230001"), "id-number-date"),
        (forged("110105" + "20230229" + "001"), "id-number-date"),
        (forged("110105" + "00000101" + "001"), "id-number-date"),
        (forged("160105" + "19900101" + "001"), "id-number-region"),
    ],
)
def test_what_is_no_id_number_says_why(text: str, code: str) -> None:
    with pytest.raises(PatientError) as caught:
        gb11643.parse(text)
    assert caught.value.code == code


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_a_patient_error(text: str) -> None:
    try:
        found = gb11643.parse(text).text
    except PatientError:
        return
    assert len(found) == gb11643.LENGTH
