"""Citizen identification numbers: GB 11643-1999, check character by ISO 7064 MOD 11-2.

Eighteen characters: region (6), birth date (8), order (3, odd for men), check. Residence permits
of Hong Kong, Macao and Taiwan residents (81 to 83) and of foreigners (9) have the same form.
"""

import re
import unicodedata
from datetime import date
from typing import Final, NamedTuple

from .errors import PatientError

LENGTH: Final = 18
_SHAPE = re.compile(r"[0-9]{17}[0-9X]")
_OLD = re.compile(r"[0-9]{15}")
_WEIGHTS: Final = tuple(pow(2, LENGTH - 1 - place, 11) for place in range(LENGTH - 1))
_CHECKS: Final = "10X98765432"
_PROVINCES: Final = "1112131415212223313233343536374142434445465051525354616263646571818283"
_REGIONS: Final = frozenset(_PROVINCES[at : at + 2] for at in range(0, len(_PROVINCES), 2))


class IdNumber(NamedTuple):
    """A number that is right in itself, and what it says of its bearer."""

    text: str
    birth_date: date
    male: bool


def check_character(digits: str) -> str:
    """The 18th character for the first 17."""
    return _CHECKS[sum(w * int(d) for w, d in zip(_WEIGHTS, digits, strict=True)) % 11]


def parse(text: str) -> IdNumber:
    """A number as typed (spaces, full width and small x are let through).

    PatientError: ``id-number-old``, ``-form``, ``-check``, ``-region`` or ``-date``.
    """
    number = re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", text)).upper()
    if _OLD.fullmatch(number):
        raise PatientError(
            "a number of 15 digits is no longer valid: use the 18 on the present card",
            code="id-number-old",
        )
    if not _SHAPE.fullmatch(number):
        raise PatientError(
            "an ID number has 17 digits and a digit or X; compare it with the card",
            code="id-number-form",
        )
    if check_character(number[:-1]) != number[-1]:
        raise PatientError(
            "the ID number has a typing error; compare it with the card", code="id-number-check"
        )
    if number[0] != "9" and number[:2] not in _REGIONS:
        raise PatientError(
            f"no region has the code {number[:2]}; compare the ID number with the card",
            code="id-number-region",
        )
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError as error:
        raise PatientError(
            "the ID number holds a date that is none; compare it with the card",
            code="id-number-date",
        ) from error
    return IdNumber(number, born, int(number[16]) % 2 == 1)
