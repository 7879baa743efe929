"""Performed procedure steps, as pynetdicom says them: begun, gone on, ended for good."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from lianzhen_edge.clinic import imaging as imaging_pages
from lianzhen_edge.clinic import orders as pages
from lianzhen_edge.dicom import orders
from lianzhen_edge.dicom.services.mpps import SOP_CLASS
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.orders import Order, Step
from support.clinic_console import Clinic
from support.dicom_node import PATIENT, DicomNode, dicom_node
from support.people import NURSE


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[DicomNode]:
    async with dicom_node(tmp_path) as found:
        yield found


@contextmanager
def opened(node: DicomNode, title: str = "CT1") -> Iterator[Any]:
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = 120
    entity.add_requested_context(SOP_CLASS)
    found = entity.associate("127.0.0.1", node.port)
    assert found.is_established
    yield found
    found.release()


def begun(order: Order | None = None, status: str = "IN PROGRESS") -> Dataset:
    said, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID = order.study_uid if order else generate_uid()
    scheduled.AccessionNumber = order.accession if order else ""
    said.ScheduledStepAttributesSequence = [scheduled]
    said.PatientID, said.Modality = PATIENT.number, "US"
    said.PerformedStationAETitle = "US1"
    said.PerformedProcedureStepStartDate, said.PerformedProcedureStepStartTime = "20261124", "0930"
    said.PerformedProcedureStepStatus = status
    said.PerformedProcedureStepID = "1"
    said.PerformedProcedureStepDescription = "ABDOMEN"
    said.PerformedSeriesSequence = []
    return said


def ended(status: str, *images: str) -> Dataset:
    said, series = Dataset(), Dataset()
    said.PerformedProcedureStepStatus = status
    said.PerformedProcedureStepEndDate, said.PerformedProcedureStepEndTime = "20261124", "0945"
    series.SeriesInstanceUID = "1.2.3.4"
    series.ReferencedImageSequence = []
    for uid in images:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.6.1", uid
        series.ReferencedImageSequence.append(one)
    said.PerformedSeriesSequence = [series]
    return said


async def say(node: DicomNode, *said: Callable[[Any], Any], title: str = "CT1") -> list[Any]:
    """(status, error ID) of each request, on one association."""

    def work() -> list[Any]:
        with opened(node, title) as association:
            answers = [each(association)[0] for each in said]
            return [(int(one.Status), one.get("ErrorID")) for one in answers]

    return await asyncio.to_thread(work)


def create(uid: str, said: Dataset) -> Callable[[Any], Any]:
    return lambda association: association.send_n_create(said, SOP_CLASS, uid)


def set_to(uid: str, said: Dataset) -> Callable[[Any], Any]:
    return lambda association: association.send_n_set(said, SOP_CLASS, uid)


async def test_an_order_is_begun_and_performed_and_the_page_shows_both(node: DicomNode) -> None:
    made = await node.put(lambda book: orders.place(book, NURSE, PATIENT.id, "US", "腹部超声", ""))
    sheets, uid = node.box.journal.sheets, generate_uid()
    assert await say(node, create(uid, begun(made))) == [(0, None)]
    assert orders.known(sheets, made.id).state == "started"
    (due,) = orders.due(sheets, "")
    assert due.started
    box: Any = Clinic(node.box.journal, 5_000_000)  # by the clock of its journal
    async with box.serving(pages.routes(box), imaging_pages.routes(box)) as visitors:
        doctor = await visitors.sign_in("li", Role.DOCTOR)
        assert "正在进行的检查" in await visitors.page(doctor, "/imaging/fragment")
        assert await say(
            node,
            set_to(uid, ended("IN PROGRESS")),
            set_to(uid, ended("COMPLETED", "1.2.5", "1.2.6")),
        ) == [(0, None), (0, None)]
        assert "正在进行的检查" not in await visitors.page(doctor, "/imaging/fragment")
        shown = await visitors.page(doctor, f"/patients/{PATIENT.id}/orders")
        for word in ("US1", "2 幅图像", "已完成"):
            assert word in shown
    assert orders.known(sheets, made.id).state == "performed"
    (step,) = sheets.find(Step)
    assert (step.order, step.patient_id, step.begun) == (made.id, PATIENT.id, "202611240930")
    assert step.series[0].images == ("1.2.5", "1.2.6")


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
async def test_what_has_ended_never_changes_again(node: DicomNode, final: str) -> None:
    uid = generate_uid()
    steps = [create(uid, begun()), set_to(uid, ended(final))]
    steps += [set_to(uid, ended(again)) for again in ("IN PROGRESS", "COMPLETED", "DISCONTINUED")]
    assert await say(node, *steps) == [(0, None), (0, None)] + [(0x0110, 0xA710)] * 3


async def test_what_cannot_be_is_refused_as_the_standard_has_it(node: DicomNode) -> None:
    uid, other = generate_uid(), generate_uid()
    nameless = begun()
    del nameless.PerformedProcedureStepStatus
    said = await say(
        node,
        create(uid, begun()),
        create(uid, begun()),  # twice
        set_to(other, ended("COMPLETED")),  # never begun
        create(other, begun(status="COMPLETED")),
        create(other, nameless),
        set_to(uid, ended("FINISHED")),
    )
    assert [status for status, _ in said] == [0, 0x0111, 0x0112, 0x0106, 0x0120, 0x0106]
    await node.admit("US2")
    assert await say(node, set_to(uid, ended("COMPLETED")), title="US2") == [(0x0124, None)]
    assert [step.state for step in node.box.journal.sheets.find(Step)] == ["in-progress"]
