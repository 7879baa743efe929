"""Patients, devices and studies for tests."""

from datetime import date
from typing import Any

import msgspec

from lianzhen_protocol import people
from lianzhen_protocol.imaging import study_key
from lianzhen_protocol.joins import Claimed, Item, ItemKind, Join, Reason
from lianzhen_protocol.people import By, Patient, PatientRegistered, Sex
from lianzhen_protocol.sheets import Sheet

from .memory_sheets import MemorySheets

NODE = "n0123456789ab"
OTHER = "n0123456789ac"
NOW_MS = 1_795_400_000_000
"""24 November 2026, about 11:33 at the clinic."""
NURSE = By(account="0" * 31 + "a", name="李护士")


def an_id(number: int) -> str:
    return f"{number:032x}"


def a_number(seed: int) -> str:
    return people.new_number(seed.to_bytes(8))


def a_patient(seed: int = 1, **changes: Any) -> Patient:
    found = Patient(
        id=an_id(seed),
        node=NODE,
        number=a_number(seed),
        name="王芳",
        sex=Sex.FEMALE,
        birth_date=date(1949, 12, 31),
        registered_by=NURSE,
        registered_ms=NOW_MS,
    )
    return msgspec.structs.replace(found, **changes)


def a_study(patient: Patient, seed: int = 900, **changes: Any) -> Item:
    """An item that waits though it is ``patient``'s."""
    found = Item(
        id=study_key(patient.node, f"1.2.{seed}"),
        node=patient.node,
        kind=ItemKind.STUDY,
        uid=f"1.2.{seed}",
        device="CT1",
        label="CT",
        claimed=Claimed(patient_id=patient.number, name="Wang^Fang"),
        from_ms=NOW_MS,
        to_ms=NOW_MS,
        reason=Reason.SECOND_MISSING,
    )
    return msgspec.structs.replace(found, **changes)


def joined(item: Item, patient: Patient) -> Item:
    join = Join(patient=patient.id, by=NURSE, at_ms=NOW_MS, why="看过申请单")
    return msgspec.structs.replace(item, join=join)


def registered(*patients: Patient) -> MemorySheets:
    sheets = MemorySheets()
    for patient in patients:
        people.register(sheets, PatientRegistered(patient=patient), NOW_MS, patient.node)
    return sheets


def everything(sheets: MemorySheets) -> dict[tuple[str, str], Sheet]:
    """What lies in them now, to compare with later."""
    return dict(sheets._sheets)
