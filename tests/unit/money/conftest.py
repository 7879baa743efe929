"""A journal with a patient whose consultation is completed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_edge.settings import Settings
from lianzhen_edge.settlement import rules
from lianzhen_protocol.consultation import Consultation, Person, State, Who
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.people import By, Patient, Sex
from lianzhen_runtime.keys import FileKeys
from support.money import SERVICE_MS, hex_id

NODE = NodeId("n0123456789ab")
PATIENT, CASE = hex_id(1), hex_id(2)
DOCTOR = Person(id=hex_id(3), name="Dr Li", who=Who.DOCTOR)
EXPERT = Person(id=hex_id(4), name="Dr Chen", who=Who.EXPERT)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    keys = FileKeys(tmp_path / "keys")
    made = await Journal.open(
        tmp_path / "journal.db", NODE, keys, lambda: SERVICE_MS, meanings=MEANINGS
    )
    await rules.keep(made, Settings())
    await made.transact(lambda book: book.put(patient()))
    await made.transact(lambda book: book.put(case()))
    yield made
    await made.close()


def patient() -> Patient:
    return Patient(
        id=PATIENT, node=NODE, number="100000001", name="王五", sex=Sex.MALE,
        registered_by=By(account="nurse", name="nurse"), registered_ms=0,
    )  # fmt: skip


def case(minutes: int = 25) -> Consultation:
    return Consultation(
        id=CASE, node=NODE, patient_id=PATIENT, state=State.COMPLETED, drafted_by=DOCTOR,
        expert=EXPERT, drafted_ms=SERVICE_MS, accepted_ms=SERVICE_MS,
        completed_ms=SERVICE_MS + minutes * 60_000,
    )  # fmt: skip
