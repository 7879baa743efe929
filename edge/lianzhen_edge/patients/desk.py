"""The registration desk: every act a record, its meaning and an audit row in one commit.

Called inside ``Journal.transact``; PatientError undoes the whole of it.
"""

import secrets
from datetime import date
from typing import Any, Final, NamedTuple

import msgspec

from lianzhen_edge.journal.book import Book
from lianzhen_protocol import gb11643, people
from lianzhen_protocol.errors import PatientError
from lianzhen_protocol.people import (
    STREAM,
    By,
    Patient,
    PatientCorrected,
    PatientLinked,
    PatientRegistered,
    PatientUnlinked,
    Sex,
)

from . import tray

UNNAMED: Final = "无名氏"
"""Name of a temporary identity, before the last digits of its number."""


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says at the desk, as typed."""

    name: str = ""
    sex: Sex = Sex.UNKNOWN
    birth_date: date | None = None
    id_number: str = ""
    phone: str = ""
    pregnant: bool | None = None
    temporary: bool = False


class Registered(NamedTuple):
    """The patient, and whether they are new: a person is not registered twice."""

    patient: Patient
    fresh: bool


def register(book: Book, by: By, details: Details, patient_id: str = "") -> Registered:
    """A new patient; or the known one with the same ID number, or with this id (a retry)."""
    known = book.get(Patient, patient_id) if patient_id else None
    details = completed(details)
    if known is None and details.id_number:
        same = people.by_id_number(book, details.id_number)
        known = next((each for each in same if each.node == book.node), None)
    if known is not None:
        book.audit(by.account, "read", f"patient/{known.id}")
        return Registered(known, fresh=False)
    number = _new_number(book)
    patient = Patient(
        id=patient_id or book.new_id(),
        node=book.node,
        number=number,
        registered_by=by,
        registered_ms=book.now_ms,
        **_fields(details, number),
    )
    book.write(STREAM, PatientRegistered(patient=patient))
    book.audit(by.account, "create", f"patient/{patient.id}")
    return Registered(patient, fresh=True)


def correct(book: Book, by: By, patient_id: str, details: Details, why: str) -> Patient:
    """The patient with other details. What had joined by the rule is looked at again."""
    known = people.known_patient(book, patient_id)
    fields = _fields(completed(details), known.number)
    changed = msgspec.structs.replace(known, **fields)
    if changed == known:
        return known
    book.write(STREAM, PatientCorrected(patient=changed, by=by, why=reason(why)))
    book.audit(by.account, "change", f"patient/{known.id}")
    tray.look_again(book, by, changed)
    return changed


def link(book: Book, by: By, temporary: str, known: str, why: str) -> None:
    """A temporary identity is a known patient."""
    body = PatientLinked(temporary=temporary, known=known, by=by, why=reason(why))
    book.write(STREAM, body)
    book.audit(by.account, "join", f"patient/{temporary}")
    book.audit(by.account, "join", f"patient/{known}")


def unlink(book: Book, by: By, temporary: str, why: str) -> None:
    """It was not."""
    known = people.known_patient(book, temporary).linked_to
    book.write(STREAM, PatientUnlinked(temporary=temporary, by=by, why=reason(why)))
    book.audit(by.account, "sever", f"patient/{temporary}")
    book.audit(by.account, "sever", f"patient/{known}")


def completed(details: Details) -> Details:
    """With birth date and sex from the ID number, where they were left open."""
    if not details.id_number:
        return details
    found = gb11643.parse(details.id_number)
    sex = Sex.MALE if found.male else Sex.FEMALE
    return msgspec.structs.replace(
        details,
        id_number=found.text,
        birth_date=details.birth_date or found.birth_date,
        sex=sex if details.sex is Sex.UNKNOWN else details.sex,
    )


def reason(text: str) -> str:
    """Why somebody does it, in their words; PatientError ``why-missing`` for none."""
    words = " ".join(text.split())[:200]
    if not words:
        raise PatientError("say why", code="why-missing")
    return words


def _fields(details: Details, number: str) -> dict[str, Any]:
    unnamed = details.temporary and not details.name.strip()
    fields: dict[str, Any] = msgspec.structs.asdict(details)
    fields["name"] = f"{UNNAMED} {number[-4:]}" if unnamed else people.clean_name(details.name)
    fields["id_number"] = details.id_number or None
    fields["phone"] = "".join(sign for sign in details.phone if sign not in " -()")
    return fields


def _new_number(book: Book) -> str:
    while True:
        number = people.new_number(secrets.token_bytes(8))
        if not any(each.node == book.node for each in people.by_number(book, number)):
            return number
