"""Examinations: ordered, due, begun, done, taken back; by whom, and what each side makes of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from lianzhen_edge.clinic import orders as pages
from lianzhen_edge.dicom import orders
from lianzhen_edge.journal.journal import Journal
from lianzhen_edge.meanings import MEANINGS
from lianzhen_protocol import orders as protocol
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.consultation import Consultation, Person, State, Who
from lianzhen_protocol.errors import RecordError
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.imaging import ImageStored, Sent, Study, instance_key, study_key
from lianzhen_protocol.orders import Order, Step, StepBegun, StepChanged, StepSeries
from lianzhen_runtime.keys import FileKeys
from support.clinic_console import Clinic
from support.memory_sheets import MemorySheets
from support.people import NODE, NOW_MS, NURSE, a_patient, an_id

PATIENT = a_patient()
ORDER = an_id(77)
PLACED = protocol.OrderPlaced(
    id=ORDER, patient=PATIENT.id, modality="US", procedure="腹部超声", by=NURSE
)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    keys = FileKeys(tmp_path / "keys")
    path = tmp_path / "journal.db"
    made = await Journal.open(path, NodeId(NODE), keys, lambda: NOW_MS, meanings=MEANINGS)
    await made.transact(lambda book: book.put(PATIENT))
    yield made
    await made.close()


@pytest.fixture
def sheets() -> MemorySheets:
    found = MemorySheets()
    found.put(PATIENT)
    protocol.placed(found, NODE, PLACED, NOW_MS)
    return found


def state(sheets: MemorySheets) -> str:
    found = sheets.get(Order, ORDER)
    assert found is not None
    return found.state


def image(study_uid: str, accession: str = "") -> ImageStored:
    return ImageStored(
        instance=instance_key(NODE, "0" * 64),
        study=study_key(NODE, study_uid),
        sha256="0" * 64,
        size=1,
        sop_class="1.2",
        sop_uid="1.2.3",
        study_uid=study_uid,
        series_uid="1.2.3.4",
        transfer_syntax="1.2",
        sent=Sent(accession=accession),
        received_ms=NOW_MS,
    )


def step(number: int = 1, **more: str) -> StepBegun:
    uid = f"1.2.3.{number}"
    return StepBegun(step=protocol.step_key(NODE, uid), sop_uid=uid, station="US1", **more)


def test_accession_number_and_uid_are_as_dicom_has_them() -> None:
    number, uid = protocol.accession(ORDER), protocol.study_uid(ORDER)
    assert (len(number), number.isalnum()) == (16, True)
    assert uid == "2.25.77"
    assert len(protocol.study_uid("f" * 32)) <= 64


async def test_a_doctor_orders_on_the_patients_page_and_takes_it_back(journal: Journal) -> None:
    clinic = Clinic(journal, NOW_MS)
    async with clinic.serving(pages.routes(clinic)) as visitors:  # type: ignore[arg-type]
        doctor = await visitors.sign_in("li", Role.DOCTOR)
        nurse = await visitors.sign_in("wu", Role.NURSE)
        path, wanted = f"/patients/{PATIENT.id}/orders", {"modality": "US", "procedure": "腹部超声"}
        assert (await visitors.ask(nurse, "POST", path, wanted))[0] == 403
        stranger = f"/patients/{an_id(9)}/orders"
        assert (await visitors.ask(doctor, "POST", stranger, wanted))[0] == 404
        for wrong in (
            {"modality": "XX"},
            {"procedure": ""},
            {"procedure": "x" * 65},
            {"procedure": " "},
        ):
            assert (await visitors.ask(doctor, "POST", path, wanted | wrong))[0] == 422
        status, made = await visitors.ask(doctor, "POST", path, wanted | {"once": "a" * 32})
        again = await visitors.ask(doctor, "POST", path, wanted | {"once": "a" * 32})
        assert (status, again[1]["id"]) == (200, made["id"])
        _, shown = await visitors.ask(nurse, "GET", path)
        assert [each["state"] for each in shown["orders"]] == ["ordered"]
        page = await visitors.page(doctor, path)
        assert "腹部超声" in page
        assert protocol.accession(made["id"]) in page
        (due,) = orders.due(journal.sheets, "青山镇卫生院")
        assert (due.number, due.name, due.modality) == (PATIENT.number, "王芳", "US")
        path = f"/orders/{made['id']}/cancel"
        assert (await visitors.ask(nurse, "POST", path, {}))[0] == 403
        assert (await visitors.ask(doctor, "POST", path, {"why": "做过了"}))[0] == 200
        assert (await visitors.ask(doctor, "POST", path, {}))[0] == 409
        assert orders.due(journal.sheets, "") == []
    trail = journal.sheets.audit_trail(NodeId(NODE))
    noted = [
        (row.entry.action, row.entry.patient)
        for row in trail
        if row.entry and row.entry.action != "read"
    ]
    assert noted == [("create", PATIENT.id), ("remove", PATIENT.id)]


async def test_a_request_for_a_consultation_is_due_until_it_has_a_study(journal: Journal) -> None:
    doctor = Person(id=an_id(3), name="Dr Li", who=Who.DOCTOR)
    case = Consultation(
        id=an_id(5), node=NODE, patient_id=PATIENT.id, state=State.PENDING, drafted_by=doctor,
        doctor=doctor, acuity=1, complaint="腹痛", drafted_ms=NOW_MS, pending_ms=NOW_MS,
    )  # fmt: skip
    await journal.transact(lambda book: book.put(case))
    (due,) = orders.due(journal.sheets, "")
    assert (due.modality, due.reason, due.by, due.urgent) == ("", "腹痛", "Dr Li", True)
    assert due.study_uid == protocol.study_uid(case.id)
    draft = msgspec.structs.replace(case, state=State.DRAFT)
    await journal.transact(lambda book: book.put(draft))
    assert orders.due(journal.sheets, "") == []
    await journal.transact(lambda book: book.put(case))
    study = Study(id="1" * 32, node=NODE, uid="1.2", patient_id=PATIENT.id, last_ms=NOW_MS)
    await journal.transact(lambda book: book.put(study))
    assert orders.due(journal.sheets, "") == []


@pytest.mark.parametrize("by_number", [True, False])
def test_an_order_is_performed_by_its_images(sheets: MemorySheets, by_number: bool) -> None:
    number = protocol.accession(ORDER)
    protocol.image_came(sheets, NODE, image("1.2.9", "A000"))
    assert state(sheets) == "ordered"
    came = image("1.2.9", number) if by_number else image(protocol.study_uid(ORDER))
    protocol.image_came(sheets, "n0123456789ac", came)  # another clinic's
    assert state(sheets) == "ordered"
    protocol.image_came(sheets, NODE, came)
    assert state(sheets) == "performed"


@pytest.mark.parametrize(
    ("how", "after"), [("completed", "performed"), ("discontinued", "ordered")]
)
def test_a_modality_begins_and_ends_an_order(sheets: MemorySheets, how: str, after: str) -> None:
    body = step(study_uid=protocol.study_uid(ORDER))
    protocol.begun(sheets, NODE, body, NOW_MS)
    assert state(sheets) == "started"
    protocol.image_came(sheets, NODE, image(body.study_uid))
    assert state(sheets) == "started"  # the modality says itself when it is done
    series = (StepSeries(uid="1.2.3.4", images=("1.2.3", "1.2.4")),)
    protocol.changed(sheets, NODE, StepChanged(step=body.step, state="in-progress", series=series))
    assert state(sheets) == "started"
    protocol.changed(sheets, NODE, StepChanged(step=body.step, state=how))
    assert state(sheets) == after
    found = sheets.get(Step, body.step)
    assert found is not None
    assert (found.patient_id, found.order, found.images) == (PATIENT.id, ORDER, 2)
    for again in ("in-progress", "completed", "discontinued"):
        with pytest.raises(RecordError, match="does not change"):
            protocol.changed(sheets, NODE, StepChanged(step=body.step, state=again))


def test_what_cannot_be_is_refused(sheets: MemorySheets) -> None:
    for node, wrong, code in (
        (NODE, PLACED, "order-known"),
        ("n0123456789ac", msgspec.structs.replace(PLACED, id=an_id(78)), "order-patient"),
    ):
        with pytest.raises(RecordError) as refused:
            protocol.placed(sheets, node, wrong, NOW_MS)
        assert refused.value.code == code
    early = msgspec.structs.replace(PLACED, id=an_id(78), patient=an_id(9))
    protocol.placed(sheets, NODE, early, NOW_MS)  # the hub hears of its patient later
    protocol.begun(sheets, NODE, step(accession=protocol.accession(ORDER)), NOW_MS)
    cancel = protocol.OrderCancelled(id=ORDER, by=NURSE)
    for body, code in (
        (cancel, "order-not-open"),
        (msgspec.structs.replace(cancel, id=an_id(79)), "order-unknown"),
    ):
        with pytest.raises(RecordError) as refused:
            protocol.cancelled(sheets, NODE, body)
        assert refused.value.code == code
    with pytest.raises(RecordError, match="already"):
        protocol.begun(sheets, NODE, step(), NOW_MS)
    with pytest.raises(RecordError, match="not its own"):
        protocol.begun(sheets, NODE, msgspec.structs.replace(step(2), sop_uid="1.9"), NOW_MS)
    with pytest.raises(RecordError, match="no such step"):
        protocol.changed(sheets, "n0123456789ac", StepChanged(step=step().step, state="completed"))
