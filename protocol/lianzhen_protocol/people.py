"""Patients: who they are, what they are found by, and what may be said of them to whom.

A patient is one self-contained record each time something changes. A clinic's patient number is
seven random digits and two check digits (ISO 7064 MOD 97-10): typed at a scanner, every single
wrong digit and every swap of neighbours is found; being random, the numbers of two clinics, or
of a box that came back from an old copy, all but never meet.

A temporary identity that turns out to be a known patient is *linked*, not merged: nothing moves,
so the link can be undone. The same person at two clinics is two sheets, found together at the
hub by a token of the ID number.
"""

import re
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from . import gb11643
from .errors import PatientError
from .records import Body
from .sheets import Index, Sheet, Sheets

STREAM: Final = "record.people"
"""The stream of patients, bindings and joins."""

REGISTERED: Final = "registered"
TEMPORARY: Final = "temporary"
LINKED: Final = "linked"

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
CHINA: Final = timezone(timedelta(hours=8))
_ID = re.compile(r"[0-9a-f]{32}")
_PHONE = re.compile(r"\+?[0-9]{5,15}")
_NUMBER_DIGITS: Final = 9
_FIRST_NUMBER: Final = 1_000_000  # no leading zero, which some consoles drop
_NUMBERS: Final = 9_000_000
_OLDEST: Final = 130
_MAX_NAME: Final = 64


class Sex(StrEnum):
    """As on the card; U where nobody could say."""

    MALE = "M"
    FEMALE = "F"
    UNKNOWN = "U"


class By(msgspec.Struct, frozen=True, kw_only=True):
    """A named person who did something. No account id: the box did it by a rule."""

    account: str = ""
    name: str = ""


class Patient(Sheet, frozen=True, kw_only=True):
    """A person as one clinic knows them; ``id`` is made by whoever registers."""

    SHEET: ClassVar[str] = "patient"

    id: str
    node: str
    number: str
    """The clinic's patient number, 9 digits: printed, and typed as DICOM PatientID."""
    name: str
    sex: Sex
    birth_date: date | None = None
    id_number: str | None = None
    """GB 11643, 18 characters."""
    temporary: bool = False
    """Nobody knows who it is yet: unconscious, without papers, newborn."""
    phone: str = ""
    pregnant: bool | None = None
    """None while nobody asked."""
    registered_by: By
    registered_ms: int
    linked_to: str = ""
    """Id of the known patient that this temporary identity turned out to be."""

    def index(self) -> Index:
        state = LINKED if self.linked_to else TEMPORARY if self.temporary else REGISTERED
        return Index(self.id, self.node, state, self.registered_ms)

    def tokens(self) -> tuple[tuple[str, str], ...]:
        found = (("number", self.number), ("id-number", self.id_number), ("link", self.linked_to))
        return tuple((purpose, value) for purpose, value in found if value)

    def age_on(self, day: date) -> int | None:
        """Completed years on a day; None if nobody knows the birth date."""
        return age_on(self.birth_date, day) if self.birth_date else None

    def age_at(self, at_ms: int) -> tuple[int, str] | None:
        """Age as it is said at a time: in ``years``, or in ``months`` below two years."""
        day, born = china_day(at_ms), self.birth_date
        if born is None:
            return None
        years = age_on(born, day)
        return (years, "years") if years >= 2 else (months_on(born, day), "months")


class PatientRegistered(Body, frozen=True):
    """A new patient, as the clinic registered them."""

    patient: Patient


class PatientCorrected(Body, frozen=True):
    """The patient as they stand after a correction, by whom and why."""

    patient: Patient
    by: By
    why: str


class PatientLinked(Body, frozen=True):
    """A temporary identity is a known patient."""

    temporary: str
    known: str
    by: By
    why: str


class PatientUnlinked(Body, frozen=True):
    """It was not, after all: everything is as it was before."""

    temporary: str
    by: By
    why: str


KINDS: Final[dict[str, dict[int, type[Body]]]] = {
    "patient.registered": {1: PatientRegistered},
    "patient.corrected": {1: PatientCorrected},
    "patient.linked": {1: PatientLinked},
    "patient.unlinked": {1: PatientUnlinked},
}


# -- days and ages


def china_day(at_ms: int) -> date:
    """The calendar day at the clinic (UTC+8, no summer time) of a time in ms."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(CHINA).date()


def age_on(born: date, day: date) -> int:
    """Completed years; who was born on 29 February is older on 1 March of a common year."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def months_on(born: date, day: date) -> int:
    """Completed months, for infants."""
    return 12 * (day.year - born.year) + day.month - born.month - (day.day < born.day)


# -- the clinic's patient number


def new_number(random: bytes) -> str:
    """A patient number from 8 random bytes; draw again while the clinic has it already."""
    if len(random) < 8:
        raise ValueError("a patient number needs 8 random bytes")
    return _with_check(_FIRST_NUMBER + int.from_bytes(random[:8]) % _NUMBERS)


def patient_number(text: str) -> str:
    """A number as typed, without spaces and hyphens.

    PatientError: ``patient-number-form`` or, for a typing slip, ``patient-number-check``.
    """
    digits = re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", text))
    if not re.fullmatch(r"[1-9][0-9]{8}", digits):
        raise PatientError(
            f"a patient number has {_NUMBER_DIGITS} digits; compare it with the label",
            code="patient-number-form",
        )
    if int(digits) % 97 != 1:
        raise PatientError(
            "the patient number has a typing error; compare it with the label",
            code="patient-number-check",
        )
    return digits


def number_text(number: str) -> str:
    """As it is printed: three groups of three."""
    return " ".join(number[at : at + 3] for at in range(0, len(number), 3))


def _with_check(number: int) -> str:
    return f"{number}{98 - number * 100 % 97:02d}"


# -- names


def clean_name(text: str) -> str:
    """A name in one form (NFC, single spaces); PatientError ``name-missing`` or ``name-form``."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name:
        raise PatientError("a patient has a name", code="name-missing")
    # The signs that part a DICOM person name, and what no name has.
    if len(name) > _MAX_NAME or any(c in "^=\\" or not c.isprintable() for c in name):
        raise PatientError(
            f"a name has at most {_MAX_NAME} letters and none of ^ = \\", code="name-form"
        )
    return name


def folded_name(text: str) -> str:
    """What two spellings of a name have in common: case, width, spaces and dots do not count."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(sign for sign in folded if sign.isalnum())


# -- what need not be known is not shown


def masked_name(name: str) -> str:
    """The first sign of a name, for places that need not know the rest."""
    return name[:1] + "*" * (len(name) - 1)


def masked_id_number(number: str | None) -> str:
    """The region's first four digits and the last two; the birth date is gone."""
    return f"{number[:4]}{'*' * 12}{number[-2:]}" if number else ""


def masked_phone(phone: str) -> str:
    """The last four digits."""
    return "*" * max(0, len(phone) - 4) + phone[-4:] if len(phone) > 4 else "*" * len(phone)


def masked(patient: Patient) -> Patient:
    """The patient for those who need to tell two apart but not to know who they are."""
    born = patient.birth_date
    return msgspec.structs.replace(
        patient,
        name=masked_name(patient.name),
        id_number=masked_id_number(patient.id_number) or None,
        phone=masked_phone(patient.phone),
        birth_date=born.replace(month=1, day=1) if born else None,
        number="*" * 5 + patient.number[-4:],
    )


def for_care(patient: Patient) -> Patient:
    """The patient for a doctor elsewhere: who they are, without ID number and telephone."""
    return msgspec.structs.replace(
        patient,
        id_number=masked_id_number(patient.id_number) or None,
        phone=masked_phone(patient.phone),
    )


# -- what can be so


def check(patient: Patient, today: date) -> None:
    """PatientError for what cannot be: each code names one field of the form."""
    if not _ID.fullmatch(patient.id):
        raise PatientError("a patient's id is 32 hexadecimal digits")
    if patient_number(patient.number) != patient.number:
        raise PatientError("a patient number is digits only", code="patient-number-form")
    if clean_name(patient.name) != patient.name:
        raise PatientError("a name has no spare spaces", code="name-form")
    if patient.phone and not _PHONE.fullmatch(patient.phone):
        raise PatientError("a telephone number has 5 to 15 digits", code="phone-form")
    if patient.pregnant and patient.sex is Sex.MALE:
        raise PatientError("a man is not pregnant: correct sex or pregnancy", code="pregnant-man")
    born = patient.birth_date
    if born and (born > today or age_on(born, today) > _OLDEST):
        raise PatientError("nobody alive was born then", code="birth-date")
    if patient.id_number is None:
        if not patient.temporary and born is None:
            raise PatientError(
                "without ID number there must be a birth date, or a temporary identity",
                code="birth-date-missing",
            )
        return
    _check_id_number(patient, patient.id_number)


def _check_id_number(patient: Patient, text: str) -> None:
    found = gb11643.parse(text)
    if found.text != text:
        raise PatientError("an ID number has no spaces and a capital X", code="id-number-form")
    if patient.temporary:
        raise PatientError("who has an ID number is no longer temporary", code="temporary-known")
    if patient.birth_date != found.birth_date:
        raise PatientError(
            f"the ID number says born on {found.birth_date}", code="birth-date-differs"
        )
    if patient.sex is not (Sex.MALE if found.male else Sex.FEMALE):
        raise PatientError("the ID number says another sex", code="sex-differs")


# -- finding


def by_number(sheets: Sheets, number: str) -> list[Patient]:
    """Who carries a patient number: one at most at a clinic, at the hub one a clinic."""
    return sheets.find_token(Patient, "number", number)


def by_id_number(sheets: Sheets, id_number: str) -> list[Patient]:
    """Every sheet of the person with an ID number: one at most for each clinic."""
    return sheets.find_token(Patient, "id-number", id_number)


def same_person(sheets: Sheets, patient: Patient) -> list[Patient]:
    """The same person as other clinics know them; never merged, only shown."""
    if not patient.id_number:
        return []
    return [other for other in by_id_number(sheets, patient.id_number) if other.id != patient.id]


def whole(sheets: Sheets, patient: str) -> tuple[str, ...]:
    """The patient's id, and those of the temporary identities that turned out to be them."""
    linked = sheets.find_token(Patient, "link", patient)
    return (patient, *(other.id for other in linked))


# -- meanings, the same on both sides; ``node`` is the box that says so


def register(sheets: Sheets, body: PatientRegistered, at_ms: int, node: str) -> None:
    """A new patient."""
    patient = body.patient
    _authored(patient, node)
    check(patient, china_day(at_ms))
    if sheets.get(Patient, patient.id) is not None:
        raise PatientError("this patient is registered already", code="patient-known")
    if patient.linked_to:
        raise PatientError("a link is made afterwards", code="patient-fixed")
    _unique(sheets, patient)
    sheets.put(patient)


def correct(sheets: Sheets, body: PatientCorrected, at_ms: int, node: str) -> None:
    """The patient as corrected; id, number, clinic, link and registration stay."""
    patient, known = body.patient, known_patient(sheets, body.patient.id)
    _authored(patient, node)
    check(patient, china_day(at_ms))
    for field in ("node", "number", "linked_to", "registered_by", "registered_ms"):
        if getattr(patient, field) != getattr(known, field):
            raise PatientError(f"a patient keeps their {field}", code="patient-fixed")
    if patient.temporary and not known.temporary:
        raise PatientError("a known patient stays known", code="patient-fixed")
    _unique(sheets, patient)
    sheets.put(patient)


def link(sheets: Sheets, body: PatientLinked, node: str) -> None:
    """A temporary identity is a known patient of the same clinic."""
    temporary = known_patient(sheets, body.temporary)
    known = known_patient(sheets, body.known)
    _authored(temporary, node)
    _authored(known, node)
    if not temporary.temporary:
        raise PatientError("only a temporary identity can be linked", code="link-known")
    if temporary.linked_to:
        raise PatientError("it is linked already: undo that first", code="link-twice")
    if known.temporary or known.id == temporary.id:
        raise PatientError("link it to a patient who is known", code="link-to-temporary")
    if differs(temporary, known):
        raise PatientError("sex or birth date are those of two people", code="link-contradiction")
    sheets.put(msgspec.structs.replace(temporary, linked_to=known.id))


def unlink(sheets: Sheets, body: PatientUnlinked, node: str) -> None:
    """The temporary identity stands alone again."""
    temporary = known_patient(sheets, body.temporary)
    _authored(temporary, node)
    if not temporary.linked_to:
        raise PatientError("it is not linked", code="link-none")
    sheets.put(msgspec.structs.replace(temporary, linked_to=""))


def differs(one: Patient, other: Patient) -> bool:
    """Whether sex or birth date, where both are known, say that they are two people."""
    sexes = {one.sex, other.sex} - {Sex.UNKNOWN}
    born = {one.birth_date, other.birth_date} - {None}
    return len(sexes) > 1 or len(born) > 1


def known_patient(sheets: Sheets, patient: str) -> Patient:
    """The sheet of a patient; PatientError ``patient-unknown``."""
    found = sheets.get(Patient, patient)
    if found is None:
        raise PatientError("there is no such patient", code="patient-unknown")
    return found


def _authored(patient: Patient, node: str) -> None:
    if patient.node != node:
        raise PatientError("a box speaks of the patients of its own clinic", code="patient-foreign")


def _unique(sheets: Sheets, patient: Patient) -> None:
    """One number and one ID number, one sheet of a clinic."""
    for code, found in (
        ("patient-number-taken", by_number(sheets, patient.number)),
        ("id-number-taken", by_id_number(sheets, patient.id_number or "")),
    ):
        if any(other.id != patient.id and other.node == patient.node for other in found):
            raise PatientError("another patient of this clinic has this number", code=code)
