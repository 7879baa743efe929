"""The upper layer byte by byte: who is let in, what ends an association, and what goes on."""

import contextlib
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import wait_until
from lianzhen_edge.dicom import dimse, pdu, scp
from lianzhen_edge.dicom.association import Limits
from lianzhen_edge.dicom.dimse import Field, Tag
from lianzhen_edge.dicom.pdu import Kind, Reason
from support.modality import DCMTK, ct_slice, data_set
from support.upper_layer import (
    CT,
    VERIFICATION,
    Line,
    Said,
    Scp,
    echo,
    line,
    request,
    running,
    store_command,
)

IMAGE = ct_slice(1, "1.2.3", "1.2.3.4")
UID, CONTENT = str(IMAGE.SOPInstanceUID), data_set(IMAGE)
DATA_HEAD = struct.Struct(">BxLLBB")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Scp]:
    with running(tmp_path) as found:
        yield found


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Scp]:
    """Has no patience with whoever it has let in."""
    with running(tmp_path, limits=Limits(idle=0.2, stall=0.2, grace=0.2)) as found:
        yield found


def aborted(reason: Reason) -> Said:
    return Said(Kind.ABORT, bytes((0, 0, 2, reason)))


def value(content: bytes, control: int, context: int = 1) -> bytes:
    return pdu.data_head(context, control, len(content)) + content


def test_dcmtk_echoes(node: Scp) -> None:
    command = [str(DCMTK / "echoscu"), "-aet", "CT1", "--repeat", "3", "127.0.0.1", str(node.port)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("asked", "rejection"),
    [
        (request("STRANGER"), pdu.CALLING_TITLE_UNKNOWN),
        (request(version=2), pdu.VERSION_UNKNOWN),
        (request(application="1.2.3"), pdu.APPLICATION_CONTEXT_UNKNOWN),
    ],
)
def test_who_is_not_let_in_is_told_why(node: Scp, asked: bytes, rejection: pdu.Rejection) -> None:
    with line(node.port, associate=False) as caller:
        caller.say(asked)
        assert caller.hear() == Said(Kind.ASSOCIATE_RJ, bytes((0, *rejection)))
        assert caller.hear() is None


def test_another_called_title_is_let_in_unless_ours_is_asked_for(tmp_path: Path) -> None:
    for title, kind in (("", Kind.ASSOCIATE_AC), ("LIANZHEN", Kind.ASSOCIATE_RJ)):
        with running(tmp_path, title=title) as node, line(node.port, associate=False) as caller:
            caller.say(request(called="PACS"))
            said = caller.hear()
            assert said is not None
            assert said.kind is kind
            assert title == "" or said.content[1:] == bytes(pdu.CALLED_TITLE_UNKNOWN)


def test_there_are_so_many_associations_and_one_more_when_one_has_ended(
    node: Scp, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [Line(node.port) for _ in range(scp.MAX_ASSOCIATIONS + 1)]
    heard = []
    for each in lines:
        each.say(request())
        heard.append(each.hear())
    kinds = [said.kind for said in heard if said]
    assert kinds == [Kind.ASSOCIATE_AC] * scp.MAX_ASSOCIATIONS + [Kind.ASSOCIATE_RJ]
    assert heard[-1] == Said(Kind.ASSOCIATE_RJ, bytes((0, *pdu.TOO_MANY)))
    lines[0].say(pdu.pdu(Kind.RELEASE_RQ, bytes(4)))
    assert lines[0].hear() == Said(Kind.RELEASE_RP, bytes(4))
    for each in lines:
        each.close()
    wait_until("all have gone", lambda: node.server.connections == 0)
    with line(node.port) as again:
        again.say(echo())
        assert again.status() == 0


def test_connections_are_bounded_too(node: Scp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scp, "MAX_CONNECTIONS", 3)
    lines = [Line(node.port) for _ in range(3)]
    wait_until("three", lambda: node.server.connections == 3)
    with line(node.port, associate=False) as fourth:
        assert fourth.ends()
    for each in lines:
        each.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (echo(), Reason.UNEXPECTED_PDU),
        (pdu.pdu(Kind.RELEASE_RQ, bytes(4)), Reason.UNEXPECTED_PDU),
        (b"\x09\0\0\0\0\0", Reason.UNRECOGNIZED_PDU),
        (b"GET / HTTP/1.1\r\n\r\n", Reason.UNRECOGNIZED_PDU),
        (struct.pack(">BxL", 1, 1 << 31), Reason.INVALID_PARAMETER),
        (pdu.pdu(Kind.ASSOCIATE_RQ, bytes(68)), Reason.INVALID_PARAMETER),
    ],
)
def test_what_is_no_request_to_associate_is_aborted(node: Scp, said: bytes, reason: Reason) -> None:
    with line(node.port, associate=False) as caller:
        caller.say(said)
        assert caller.hear() == aborted(reason)


COMMAND = store_command(UID)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (request(), Reason.UNEXPECTED_PDU),
        (pdu.release_rp(), Reason.UNEXPECTED_PDU),
        (b"\x77\0\0\0\0\4", Reason.UNRECOGNIZED_PDU),
        (struct.pack(">BxL", 4, 0), Reason.INVALID_PARAMETER),
        (struct.pack(">BxL", 4, (128 << 10) + 1), Reason.INVALID_PARAMETER),
        (struct.pack(">BxL", 4, 5), Reason.INVALID_PARAMETER),
        (DATA_HEAD.pack(4, 6, 1, 1, 3), Reason.INVALID_PARAMETER),
        (DATA_HEAD.pack(4, 6, 3, 1, 3), Reason.INVALID_PARAMETER),
        (DATA_HEAD.pack(4, 6, 1 << 31, 1, 3), Reason.INVALID_PARAMETER),
        (value(COMMAND, 3, context=5), Reason.INVALID_PARAMETER),
        (value(b"x", 2), Reason.UNEXPECTED_PARAMETER),
        (value(COMMAND, 3) + value(COMMAND, 3), Reason.UNEXPECTED_PARAMETER),
        (value(COMMAND, 3) + value(b"x", 2, context=3), Reason.UNEXPECTED_PARAMETER),
        (value(COMMAND, 1) + value(COMMAND, 1, context=3), Reason.UNEXPECTED_PARAMETER),
        (value(COMMAND[:-1], 3), Reason.INVALID_PARAMETER),
        (value(bytes(9000), 1) * 2, Reason.INVALID_PARAMETER),
        (
            value(dimse.encode({Tag.COMMAND_FIELD: 0x8001, Tag.DATA_SET_TYPE: 0x0101}), 3),
            Reason.UNEXPECTED_PDU,
        ),
    ],
)
def test_what_is_against_the_protocol_is_aborted_and_nothing_is_kept(
    node: Scp, said: bytes, reason: Reason
) -> None:
    with line(node.port) as caller:
        caller.say(said)
        assert caller.hear() == aborted(reason)
        assert caller.ends()
    assert node.kept() == []


def test_fragments_of_any_size_make_an_image(node: Scp) -> None:
    command = b"".join(
        value(bytes([each]), 1 if at < len(COMMAND) - 1 else 3) for at, each in enumerate(COMMAND)
    )
    pieces = [CONTENT[at : at + 1] for at in range(10_000)]
    data = b"".join(value(each, 0) for each in pieces) + value(CONTENT[10_000:], 2)
    with line(node.port) as caller:
        caller.say(command + value(b"", 0) * 100 + data)
        assert caller.status() == 0
    ((_, found),) = node.kept()
    assert node.body(found).endswith(CONTENT)


def test_values_of_two_messages_in_one_pdu_are_two_messages(node: Scp) -> None:
    both = b"".join(each[6:] for each in (value(COMMAND, 3), value(CONTENT, 2), echo(2)))
    with line(node.port) as caller:
        caller.say(pdu.pdu(Kind.DATA, both))
        assert (caller.status(), caller.status()) == (0, 0)


def test_a_release_is_answered_and_an_abort_is_not(node: Scp) -> None:
    with line(node.port) as caller:
        caller.say(pdu.pdu(Kind.RELEASE_RQ, bytes(4)))
        assert caller.hear() == Said(Kind.RELEASE_RP, bytes(4))
        assert caller.hear() is None
    with line(node.port) as caller:
        caller.say(value(COMMAND, 3) + value(CONTENT[:1000], 0) + pdu.abort(None))
        assert caller.hear() is None
    assert node.kept() == []


def test_who_says_nothing_has_its_time(tmp_path: Path) -> None:
    with running(tmp_path, limits=Limits(artim=0.2)) as node:
        for begun in (b"", request()[:40]):
            with line(node.port, associate=False) as caller:
                caller.say(begun)
                assert caller.hear() == aborted(Reason.NOT_SPECIFIED)
                assert caller.hear() is None


@pytest.mark.parametrize("begun", [b"", b"\4", value(COMMAND, 3), value(COMMAND, 3) + b"\4\0\0"])
def test_an_association_that_stands_still_is_aborted(hasty: Scp, begun: bytes) -> None:
    with line(hasty.port) as caller:
        caller.say(begun)
        assert caller.hear() == aborted(Reason.NOT_SPECIFIED)
    assert hasty.kept() == []


def test_who_drips_is_given_no_longer_than_its_bytes_need(hasty: Scp) -> None:
    heard = threading.Event()

    def drip(caller: Line) -> None:
        with contextlib.suppress(OSError):
            while not heard.wait(0.02):
                caller.say(value(b"", 0))

    with line(hasty.port) as caller:
        caller.say(value(COMMAND, 3))
        thread = threading.Thread(target=drip, args=(caller,))
        thread.start()
        assert caller.hear() == aborted(Reason.NOT_SPECIFIED)
        heard.set()
        thread.join()


def test_the_end_of_the_server_is_said(tmp_path: Path) -> None:
    with running(tmp_path) as node, line(node.port) as caller:
        wait_until("it is open", lambda: node.server.connections == 1)
        node.server.close()
        assert caller.hear() == Said(Kind.ABORT, bytes(4))
        assert node.server.connections == 0


def test_operations_that_nobody_does_are_refused_and_the_association_goes_on(node: Scp) -> None:
    command = {Tag.COMMAND_FIELD: Field.C_FIND, Tag.MESSAGE_ID: 1, Tag.DATA_SET_TYPE: 1}
    cancel = {Tag.COMMAND_FIELD: Field.C_CANCEL, Tag.RESPONDED_TO: 1, Tag.DATA_SET_TYPE: 0x0101}
    with line(node.port) as caller:
        caller.say(b"".join(pdu.message(3, dimse.encode(command), bytes(100), 16384)))
        assert caller.status() == dimse.UNRECOGNISED_OPERATION
        caller.say(value(dimse.encode(cancel), 3))  # too late, and no harm
        caller.say(echo())
        assert caller.status() == 0


def test_an_image_on_another_context_than_one_of_storage_is_refused(node: Scp) -> None:
    with line(node.port) as caller:
        caller.say(value(COMMAND, 3, context=3) + value(CONTENT, 2, context=3))
        assert caller.status() == 0xA900
        verification = COMMAND.replace(CT.encode() + b"\0", VERIFICATION.encode().ljust(26, b"\0"))
        caller.say(value(verification, 3, context=3) + value(CONTENT, 2, context=3))
        assert caller.status() == dimse.SOP_CLASS_NOT_SUPPORTED
    assert node.kept() == []
