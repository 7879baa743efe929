"""The worklist as dcmtk's findscu asks for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lianzhen_edge.dicom import orders
from lianzhen_edge.dicom.dimse import (
    Context,
    Field,
    Outgoing,
    Peer,
    Refusal,
    Request,
    Response,
    Tag,
)
from lianzhen_edge.dicom.services import asking, worklist
from lianzhen_edge.dicom.services.matching import Attributes
from lianzhen_edge.dicom.services.said import Due
from support.dicom_node import PATIENT, DicomNode, dicom_node
from support.people import NOW_MS, NURSE

DAY = "20261123"
STEP = "ScheduledProcedureStepSequence[0]."


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[DicomNode]:
    async with dicom_node(tmp_path) as found:
        yield found


async def ask(node: DicomNode, *keys: str, title: str = "CT1") -> str:
    given = [part for key in keys for part in ("-k", key)]
    place = ("-aet", title, "-aec", "LIANZHEN", "127.0.0.1", str(node.port))
    return await node.ask("findscu", "-W", "-v", *given, *place)


async def order(node: DicomNode, modality: str = "US", procedure: str = "腹部超声") -> str:
    return await node.put(
        lambda book: orders.place(book, NURSE, PATIENT.id, modality, procedure, "").id
    )


async def test_what_is_ordered_is_on_the_modalitys_list_until_it_is_taken_back(
    node: DicomNode,
) -> None:
    keys = (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
        *("StudyInstanceUID", f"{STEP}Modality=US", f"{STEP}ScheduledProcedureStepStartDate={DAY}"),
        *(f"{STEP}ScheduledStationAETitle=US1", f"{STEP}ScheduledProcedureStepDescription"),
        "SpecificCharacterSet=ISO_IR 192",
    )
    assert "Find Response: 1 " not in await ask(node, *keys)
    made = await order(node)
    found = orders.known(node.box.journal.sheets, made)
    said = await ask(node, *keys)
    for value in (
        *("王小明", PATIENT.number, "19491231", "腹部超声", "ISO_IR 192"),
        *(found.accession, found.study_uid, "US1", DAY),
    ):
        assert f"[{value}" in said, said
    assert "Find Response: 2 " not in said
    assert "rc=0" in said
    for wrong in (
        f"{STEP}Modality=CT",
        "PatientName=李*",
        f"{STEP}ScheduledProcedureStepStartDate=20261124-",
    ):
        assert "Find Response: 1 " not in await ask(node, "PatientID", wrong)
    assert "Find Response: 1 " in await ask(node, "PatientName=王*", f"{STEP}Modality")
    await node.put(lambda book: orders.cancel(book, NURSE, made, ""))
    assert "Find Response: 1 " not in await ask(node, *keys)


async def test_an_answer_comes_in_gb18030_if_that_is_asked_for(node: DicomNode) -> None:
    await order(node)
    path = node.box.folder / "answers"
    path.mkdir()
    place = ("-aet", "CT1", "127.0.0.1", str(node.port))
    keys = ("-k", "SpecificCharacterSet=GB18030", "-k", "PatientName", "-k", "PatientID")
    await node.ask("findscu", "-W", "-X", "-od", str(path), *keys, *place)
    (file,) = path.iterdir()
    assert "王小明".encode("gb18030") in file.read_bytes()
    shown = await node.ask("dcmdump", "+U8", str(file))
    assert "[王小明" in shown


async def test_a_cancelled_query_ends(node: DicomNode) -> None:
    for _ in range(4):
        await order(node)
    said = await node.ask(
        "findscu", "-W", "-v", "--cancel", "1", "-k", "PatientID", "-aet", "CT1", "127.0.0.1",
        str(node.port),
    )  # fmt: skip
    assert "rc=0" in said
    assert "Cancel" in said


async def test_a_stranger_and_another_operation_are_refused(node: DicomNode) -> None:
    said = await ask(node, "PatientID", title="NOBODY")
    assert "Association Rejected" in said


class Caller:
    """Cancels after so many answers."""

    peer, contexts = Peer("CT1", "127.0.0.1"), ()

    def __init__(self, after: int) -> None:
        self.left = after

    def cancelled(self, message_id: int) -> bool:
        self.left -= 1
        return message_id == 7 and self.left < 0

    def quiet(self, seconds: float) -> bool:
        return True

    def call(self, request: Outgoing) -> Response:
        raise AssertionError


def test_answers_are_bounded_and_a_cancel_ends_them() -> None:
    command = {Tag.COMMAND_FIELD: Field.C_FIND, Tag.MESSAGE_ID: 7}
    request = Request(Context(1, worklist.SOP_CLASS, "1.2.840.10008.1.2.1"), command)
    three: list[Attributes] = [{0x00100020: str(each)} for each in range(3)]
    whole = asking.answers(request, Caller(9), {0x00100020: ""}, three)
    assert [each.status for each in whole] == [0xFF00, 0xFF00, 0xFF00, 0]
    ended = asking.answers(request, Caller(2), {0x00100020: ""}, three)
    assert [each.status for each in ended] == [0xFF00, 0xFF00, 0xFE00]
    bounded = asking.answers(request, Caller(9), {0x00100020: ""}, three, 2)
    assert [next(bounded).status, next(bounded).status] == [0xFF00, 0xFF00]
    with pytest.raises(Refusal) as refused:
        next(bounded)
    assert refused.value.status == 0xA700


def test_what_is_due_from_yesterday_is_due_today() -> None:
    due = Due(
        study_uid="2.25.1", accession="A1", number="1", name="王", birth_date="", sex="U",
        modality="", procedure="远程会诊检查", by="Dr Li", at_ms=NOW_MS - 86_400_000,
    )  # fmt: skip
    found = worklist.attributes(due, {0x00400100: [{0x00080060: "DX"}]}, "DX1", NOW_MS)
    steps = found[0x00400100]
    assert not isinstance(steps, str)
    (step,) = steps
    assert (step[0x00400002], step[0x00400003]) == (DAY, "000000")
    assert (step[0x00080060], step[0x00400001]) == ("DX", "DX1")
