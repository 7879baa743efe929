"""Examinations at the box: ordered by a doctor, and due at the modalities until they are done."""

from collections.abc import Iterator
from typing import Final, TypedDict

from lianzhen_edge.journal.book import Book
from lianzhen_protocol.consultation import Consultation, State
from lianzhen_protocol.imaging import Study
from lianzhen_protocol.matching import urgent
from lianzhen_protocol.orders import (
    OPEN,
    ORDERED,
    STARTED,
    STREAM,
    Order,
    OrderCancelled,
    OrderPlaced,
    accession,
    study_uid,
)
from lianzhen_protocol.people import By, Patient
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.errors import LianzhenError

from .services.said import Due

MOST: Final = 500
"""Orders, and requests of a state, that are due at once."""

ASKING: Final = (State.PENDING, State.ASSIGNED, State.ACCEPTED, State.IN_PROGRESS)
_PROCEDURE: Final = "远程会诊检查"
"""Of a request, which names no examination."""


class OrderUnknown(LianzhenError):
    """This clinic has no such order, or no such patient to order it for."""

    code = "order-unknown"
    http_status = 404


class OrderNotOpen(LianzhenError):
    """A modality has begun it, or it was taken back already."""

    code = "order-not-open"
    http_status = 409


def place(book: Book, by: By, patient: str, modality: str, procedure: str, reason: str) -> Order:
    """Order an examination: the record and an audit row in one commit."""
    if book.get(Patient, patient) is None:
        raise OrderUnknown("this clinic has no such patient")
    identity = book.new_id()
    body = OrderPlaced(
        id=identity, patient=patient, modality=modality, procedure=procedure, reason=reason, by=by
    )
    book.write(STREAM, body)
    book.audit(by.account, "create", f"{Order.SHEET}/{identity}")
    return known(book, identity)


def cancel(book: Book, by: By, identity: str, why: str) -> Order:
    """Take an order back that nobody has begun."""
    found = known(book, identity)
    if found.state != ORDERED:
        raise OrderNotOpen(f"the examination is {found.state}: it cannot be taken back")
    book.write(STREAM, OrderCancelled(id=identity, by=by, why=why))
    book.audit(by.account, "remove", f"{Order.SHEET}/{identity}")
    return known(book, identity)


def known(sheets: Sheets, identity: str) -> Order:
    """An order of this clinic, or OrderUnknown."""
    found = sheets.get(Order, identity)
    if found is None:
        raise OrderUnknown("this clinic has no such order")
    return found


def due(sheets: Sheets, clinic: str) -> list[Due]:
    """All that is to be done: what was ordered, and requests that have no study to show."""
    ordered = [
        order
        for state in OPEN
        for order in sheets.find(Order, state=state, limit=MOST, newest=True)
    ]
    found = [one for order in ordered if (one := _of_order(sheets, order, clinic))]
    taken = {order.patient_id for order in ordered}
    asking = [case for case in _asking(sheets) if case.patient_id not in taken]
    return found + [one for case in asking if (one := _of_request(sheets, case, clinic))]


def _asking(sheets: Sheets) -> Iterator[Consultation]:
    for state in ASKING:
        for case in sheets.find(Consultation, state=state, limit=MOST, newest=True):
            since_ms = case.pending_ms or case.drafted_ms
            taken = sheets.find(Study, owner=case.patient_id, since_ms=since_ms, limit=1)
            if not case.studies and not taken:
                yield case


def _of_order(sheets: Sheets, order: Order, clinic: str) -> Due | None:
    patient = _person(sheets, order.patient_id)
    if patient is None:
        return None
    return Due(
        **_said_of(patient),
        study_uid=order.study_uid,
        accession=order.accession,
        modality=order.modality,
        procedure=order.procedure,
        reason=order.reason,
        by=order.by.name,
        clinic=clinic,
        started=order.state == STARTED,
        at_ms=order.at_ms,
    )


def _of_request(sheets: Sheets, case: Consultation, clinic: str) -> Due | None:
    patient = _person(sheets, case.patient_id)
    if patient is None:
        return None
    return Due(
        **_said_of(patient),
        study_uid=study_uid(case.id),
        accession=accession(case.id),
        modality="",
        procedure=_PROCEDURE,
        reason=case.complaint[:64],
        by=case.doctor.name if case.doctor else "",
        clinic=clinic,
        urgent=urgent(case.acuity),
        at_ms=case.pending_ms or case.drafted_ms,
    )


def _person(sheets: Sheets, identity: str) -> Patient | None:
    """The patient, or whom a temporary identity turned out to be."""
    found = sheets.get(Patient, identity)
    if found is not None and found.linked_to:
        return sheets.get(Patient, found.linked_to)
    return found


class _Who(TypedDict):
    number: str
    name: str
    birth_date: str
    sex: str
    pregnant: bool | None


def _said_of(patient: Patient) -> _Who:
    born = patient.birth_date
    return {
        "number": patient.number,
        "name": patient.name,
        "birth_date": born.strftime("%Y%m%d") if born else "",
        "sex": patient.sex,
        "pregnant": patient.pregnant,
    }
