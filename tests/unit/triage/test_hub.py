"""Triage at the hub, on a real database: what boxes say, and who has seen it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lianzhen_edge.journal.book import Book, Origin
from lianzhen_edge.triage.meanings import apply
from lianzhen_hub.ingest.projector import RECEIPTS
from lianzhen_hub.page import HubPage
from lianzhen_hub.triage.meanings import MEANINGS
from lianzhen_hub.triage.seen import seen, unseen
from lianzhen_protocol import kinds, triage
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.acuity import Level
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.identity import RecordId
from lianzhen_protocol.records import Body, RecordSeen, decode
from lianzhen_protocol.triage import TriageDecided, TriageSuggested, Verdict
from support.consultations import NODE
from support.triage import ILL, NURSE, Clinic
from unit.consultations.desk import Desk

EXPERT = Actor(id="e" * 32, login="chen", name="陈专家", roles=frozenset({Role.EXPERT}))


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Desk]:
    async with Desk(tmp_path) as made:
        yield made


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Clinic]:
    made = Clinic(tmp_path)
    await made.open()
    yield made
    await made.journal.close()


async def hear(hub: Desk, body: Body, identity: str) -> None:
    """A box's record is applied."""
    record = decode(kinds.encode(body, RecordId(bytes.fromhex(identity)), hub.now_ms))
    await hub.work(lambda page: MEANINGS[type(body)](page, record, body), NODE)


async def said(clinic: Clinic) -> tuple[TriageSuggested, TriageDecided]:
    """A suggestion that was overridden at the clinic."""
    patient = await clinic.register()
    await clinic.measure(patient, ILL)
    made = await clinic.desk.suggest(patient, NURSE)
    decided = await clinic.desk.decide(
        made.suggestion_id, patient, Verdict.OVERRIDDEN, Level.IMMEDIATE, NURSE, "大汗"
    )
    return made, decided


async def test_both_sides_have_the_same_sheets(hub: Desk, clinic: Clinic) -> None:
    made, decided = await said(clinic)
    for _ in range(2):  # a box whose acknowledgement was lost says it all again
        await hear(hub, made, made.suggestion_id)
        await hear(hub, decided, decided.decision_id)
    here = await hub.work(lambda page: triage.newest(page, made.patient_id))
    assert here == triage.newest(clinic.journal.sheets, made.patient_id)
    level = await hub.work(lambda page: triage.accepted_level(page, made.patient_id))
    assert level == decided


async def test_a_decision_without_its_suggestion_is_refused(hub: Desk, clinic: Clinic) -> None:
    _, decided = await said(clinic)
    with pytest.raises(RecordError) as error:
        await hear(hub, decided, decided.decision_id)
    assert error.value.code == "triage-unknown"


async def test_the_clinic_is_told_once_who_saw_each_record(hub: Desk, clinic: Clinic) -> None:
    made, decided = await said(clinic)
    await hear(hub, made, made.suggestion_id)

    def look(page: HubPage) -> None:
        found = triage.newest(page, made.patient_id)
        assert found is not None
        seen(page, EXPERT, NODE, found)
        assert unseen(page, found) == ()

    await hub.work(look)
    await hear(hub, decided, decided.decision_id)
    await hub.work(look)
    await hub.work(look)
    told = await hub.down(RECEIPTS)
    assert [each.record_id.hex() for each in told if isinstance(each, RecordSeen)] == [
        *(made.suggestion_id, decided.decision_id),
    ]


async def test_the_hub_has_no_say_in_triage(clinic: Clinic) -> None:
    made, _ = await said(clinic)
    record = decode(kinds.encode(made, RecordId(bytes.fromhex(made.suggestion_id)), 0))

    def work(book: Book) -> None:
        book.origin = Origin.HUB
        apply(book, record, made)

    with pytest.raises(RecordError, match="never down"):
        await clinic.journal.transact(work)
