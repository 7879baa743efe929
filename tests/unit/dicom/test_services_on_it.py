"""Services on an association, as callers that are none of ours meet them."""

import io
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from lab import wait_until
from lianzhen_edge.dicom import dimse, pdu
from lianzhen_edge.dicom.dimse import Field, Link, Outgoing, Refusal, Request, Response, Tag
from support.modality import DCMTK, ct_slice, data_set
from support.upper_layer import CT, EXPLICIT, Scp, line, request, running

WORKLIST, GET, COMMITMENT = (
    "1.2.840.10008.5.1.4.31",
    "1.2.840.10008.5.1.4.1.2.2.3",
    "1.2.840.10008.1.20.1",
)
IMAGE = ct_slice(1, "1.2.3", "1.2.3.4")


class Desk:
    """Answers a worklist query by what its Modality says, a C-GET with an image, and commitment
    on the same association.
    """

    sop_classes = (WORKLIST, GET, COMMITMENT)

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.begun = threading.Event()

    def answer(self, request: Request, link: Link) -> Iterator[Response]:
        match request.field:
            case Field.C_FIND:
                yield from self._find(request, link)
            case Field.C_GET:
                yield from self._get(request, link)
            case Field.N_ACTION:
                yield Response(dimse.SUCCESS, {Tag.ACTION_TYPE: 1})
                self.seen.append(self._report(request, link))
            case _:
                raise Refusal(dimse.UNRECOGNISED_OPERATION, "not here")

    def _find(self, request: Request, link: Link) -> Iterator[Response]:
        asked = pydicom.dcmread(io.BytesIO(request.data), force=True)
        match asked.Modality:
            case "CT":
                for _ in range(3):
                    yield Response(0xFF00, data=request.data)
                yield Response(dimse.SUCCESS)
            case "MR":
                raise Refusal(0xA900, "no such thing here", {Tag.OFFENDING_ELEMENT: (0x00080060,)})
            case "US":
                while not link.cancelled(request.message_id):
                    yield Response(0xFF00, data=request.data)
                    self.begun.set()
                yield Response(dimse.CANCEL)
            case "XA":
                yield Response(0xFF00, data=request.data)
                raise ZeroDivisionError
            case "OT":
                yield Response(dimse.SUCCESS)
                self.seen.append(link.quiet(0))
            case _:
                return

    def _get(self, request: Request, link: Link) -> Iterator[Response]:
        (way,) = (each for each in link.contexts if each.abstract_syntax == CT)
        assert way.we_may_call
        assert way.transfer_syntax == EXPLICIT
        command = {
            Tag.COMMAND_FIELD: Field.C_STORE,
            Tag.AFFECTED_SOP_CLASS: CT,
            Tag.AFFECTED_SOP_INSTANCE: str(IMAGE.SOPInstanceUID),
            Tag.PRIORITY: 0,
        }
        self.seen.append(link.call(Outgoing(way, command, data_set(IMAGE))).status)
        yield Response(0xFF00, {Tag.REMAINING: 0, Tag.COMPLETED: 1, Tag.FAILED: 0, Tag.WARNING: 0})
        yield Response(dimse.SUCCESS, {Tag.COMPLETED: 1, Tag.FAILED: 0, Tag.WARNING: 0})

    def _report(self, request: Request, link: Link) -> int:
        command = {
            Tag.COMMAND_FIELD: Field.N_EVENT_REPORT,
            Tag.AFFECTED_SOP_CLASS: COMMITMENT,
            Tag.AFFECTED_SOP_INSTANCE: request.command[Tag.REQUESTED_SOP_INSTANCE],
            Tag.EVENT_TYPE: 1,
        }
        return link.call(Outgoing(request.context, command, request.data)).status


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def node(tmp_path: Path, desk: Desk) -> Iterator[Scp]:
    with running(tmp_path, services=[desk]) as found:
        yield found


def query(modality: str) -> Dataset:
    asked = Dataset()
    asked.Modality = modality
    return asked


@pytest.fixture
def client(node: Scp) -> Iterator[Any]:
    entity = AE(ae_title="CT1")
    entity.add_requested_context(WORKLIST, [EXPLICIT])
    entity.add_requested_context(COMMITMENT, [EXPLICIT])
    entity.maximum_pdu_size = 4096
    reported = (evt.EVT_N_EVENT_REPORT, lambda event: (0x0000, event.event_information))
    opened = entity.associate("127.0.0.1", node.port, evt_handlers=[reported])
    assert opened.is_established
    yield opened
    opened.release()


def test_pending_answers_come_before_the_last(client: Any) -> None:
    answers = [
        (status.Status, found and found.Modality)
        for status, found in client.send_c_find(query("CT"), WORKLIST)
    ]
    assert answers == [(0xFF00, "CT")] * 3 + [(0, None)]


def test_a_refusal_and_a_fault_are_one_requests_and_the_association_goes_on(client: Any) -> None:
    ((refused, _),) = client.send_c_find(query("MR"), WORKLIST)
    assert (refused.Status, refused.ErrorComment) == (0xA900, "no such thing here")
    *_, (failed, _) = client.send_c_find(query("XA"), WORKLIST)
    assert failed.Status == dimse.PROCESSING_FAILURE
    ((ended, _),) = client.send_c_find(query("NONE"), WORKLIST)
    assert ended.ErrorComment == "it came to no end"
    assert len(list(client.send_c_find(query("CT"), WORKLIST))) == 4


def test_a_cancel_is_heard_while_answers_go_out(client: Any, desk: Desk) -> None:
    answers = client.send_c_find(query("US"), WORKLIST, msg_id=7)
    next(answers)
    assert desk.begun.wait(60)
    client.send_c_cancel(7, query_model=WORKLIST)
    assert [status.Status for status, _ in answers][-1] == dimse.CANCEL


def test_a_call_goes_the_other_way_after_the_last_answer(client: Any, desk: Desk) -> None:
    information = Dataset()
    information.TransactionUID = "1.2.3"
    status, _ = client.send_n_action(information, 1, COMMITMENT, "1.2.840.10008.1.20.1.1")
    assert status.Status == 0
    assert len(list(client.send_c_find(query("CT"), WORKLIST))) == 4  # both ways at once
    wait_until("the report is answered", lambda: desk.seen == [0])


def test_a_service_may_wait_for_its_caller_to_speak(client: Any, desk: Desk) -> None:
    assert len(list(client.send_c_find(query("OT"), WORKLIST))) == 1
    wait_until("it has listened", lambda: desk.seen == [True])


def test_dcmtk_gets_an_image_on_its_own_association(node: Scp, desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    command = [str(DCMTK / "getscu"), "-S", "-aet", "CT1", "-od", str(out), "-k", "0008,0052=STUDY"]
    command += ["-k", "0020,000D=1.2.3", "127.0.0.1", str(node.port)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    (path,) = out.iterdir()
    assert pydicom.dcmread(path).PixelData == IMAGE.PixelData
    assert desk.seen == [0]


def test_a_data_set_without_end_is_refused_and_not_kept_in_memory(node: Scp) -> None:
    command = {
        Tag.AFFECTED_SOP_CLASS: WORKLIST,
        Tag.COMMAND_FIELD: Field.C_FIND,
        Tag.MESSAGE_ID: 1,
        Tag.DATA_SET_TYPE: 1,
    }
    with line(node.port, associate=False) as caller:
        caller.say(request(abstracts=(WORKLIST,)))
        caller.hear()
        long = bytes(dimse.MAX_DATA_BYTES + 1)
        caller.say(b"".join(pdu.message(1, dimse.encode(command), long, 16384)))
        assert caller.status() == 0xA700
