"""PDUs: ours against pynetdicom's, and everything that an A-ASSOCIATE-RQ can be instead."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import negotiate_as_acceptor
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from lianzhen_edge.dicom import pdu
from lianzhen_edge.dicom.dimse import Context
from lianzhen_edge.dicom.negotiation import TRANSFER_SYNTAXES, VERIFICATION, agree, is_storage
from lianzhen_edge.dicom.pdu import Kind, PduBroken, Reason, Result, read_associate

FIND = "1.2.840.10008.5.1.4.31"
IMPLICIT, EXPLICIT, JPEG = TRANSFER_SYNTAXES[1], TRANSFER_SYNTAXES[0], "1.2.840.10008.1.2.4.50"


def request(
    contexts: list[tuple[str, list[str]]],
    roles: dict[str, tuple[bool, bool]] | None = None,
    *,
    window: bool = False,
    max_pdu: int = 16382,
) -> bytes:
    """An A-ASSOCIATE-RQ as pynetdicom makes it."""
    asked = A_ASSOCIATE()
    asked.application_context_name = pdu.APPLICATION_CONTEXT
    asked.calling_ae_title, asked.called_ae_title = "CT1", "LIANZHEN"
    proposed = [build_context(abstract, syntaxes) for abstract, syntaxes in contexts]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    asked.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = max_pdu
    implementation.implementation_class_uid = UID("1.2.3")
    information: list[Any] = [length, implementation]
    if window:
        operations = AsynchronousOperationsWindowNegotiation()
        operations.maximum_number_operations_invoked = 5
        operations.maximum_number_operations_performed = 5
        information.append(operations)
    for uid, (scu, scp) in (roles or {}).items():
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = UID(uid), scu, scp
        information.append(role)
    asked.user_information = information
    made = A_ASSOCIATE_RQ()
    made.from_primitive(asked)
    return made.encode()


def accepted(content: bytes, *services: str) -> tuple[pdu.AssociateRequest, A_ASSOCIATE_AC]:
    """What we make of a request, and our answer as pynetdicom reads it."""
    found = read_associate(content[6:])
    agreed = agree(found, services)
    answer = pdu.associate_ac(
        found, agreed.answers, agreed.roles, max_pdu=131072, implementation="1.2.3", version="LZ"
    )
    read = A_ASSOCIATE_AC()
    read.decode(answer)
    assert read.encode() == answer  # to the byte
    return found, read


def test_a_request_is_read_and_its_answer_is_what_pynetdicom_reads() -> None:
    content = request(
        [
            (CTImageStorage, [JPEG, EXPLICIT]),
            (CTImageStorage, ["1.2.3.4"]),
            (Verification, [IMPLICIT]),
            (FIND, [IMPLICIT, EXPLICIT]),
            ("1.2.3", [IMPLICIT]),
        ],
        {CTImageStorage: (False, True), FIND: (True, True), "1.2.3": (True, True)},
        window=True,
    )
    found, answer = accepted(content, FIND)
    assert (found.version, found.called, found.calling) == (1, "LIANZHEN", "CT1")
    assert (found.max_pdu, found.window) == (16382, (5, 5))
    assert answer.called_ae_title == "LIANZHEN".ljust(16) or answer.called_ae_title == "LIANZHEN"
    assert [(each.context_id, each.result) for each in answer.presentation_context] == [
        *((1, 0), (3, Result.NO_TRANSFER_SYNTAX), (5, 0), (7, 0), (9, Result.NO_ABSTRACT_SYNTAX)),
    ]
    assert [each.transfer_syntax for each in answer.presentation_context][:4:2] == [
        EXPLICIT,
        IMPLICIT,
    ]
    information = answer.user_information
    assert information is not None
    assert information.maximum_length == 131072
    window = information.async_ops_window
    assert window is not None
    assert window.maximum_number_operations_invoked == 1
    assert {uid: (role.scu_role, role.scp_role) for uid, role in information.role_selection.items()}
    assert {str(uid) for uid in information.role_selection} == {CTImageStorage, FIND}


def test_the_caller_may_be_the_scp_of_storage_and_of_nothing_else() -> None:
    content = request(
        [(CTImageStorage, [EXPLICIT]), (FIND, [EXPLICIT])],
        {CTImageStorage: (False, True), FIND: (True, True)},
    )
    agreed = agree(read_associate(content[6:]), [FIND])
    assert agreed.contexts == {
        1: Context(1, CTImageStorage, EXPLICIT, we_may_call=True),
        3: Context(3, FIND, EXPLICIT),
    }
    assert agreed.roles == {CTImageStorage: (False, True), FIND: (True, False)}


def test_what_pynetdicom_would_accept_is_accepted() -> None:
    ours = [*AllStoragePresentationContexts, build_context(VERIFICATION)]
    for context in ours:
        context.transfer_syntax = list(TRANSFER_SYNTAXES)
    for at in range(0, len(ours), 120):
        part = [(str(each.abstract_syntax), [JPEG, IMPLICIT]) for each in ours[at : at + 120]]
        found, answer = accepted(request(part))
        theirs = [build_context(each.abstract_syntax, list(each[2])) for each in found.contexts]
        for each, asked in zip(theirs, found.contexts, strict=True):
            each.context_id = asked.id
        wanted, _ = negotiate_as_acceptor(theirs, ours)
        assert [each.result for each in wanted] == [0] * len(part)
        assert [(each.context_id, each.transfer_syntax[0]) for each in wanted] == [
            (each.context_id, each.transfer_syntax) for each in answer.presentation_context
        ]


def test_queries_and_peculiar_classes_are_no_storage() -> None:
    for uid in ("1.2.840.10008.5.1.4.1.2.2.1", VERIFICATION, FIND, "1.3.12.2.1107.5.9.1", ""):
        assert not is_storage(uid)


@pytest.mark.parametrize(
    "ours",
    [
        *((pdu.release_rp(), A_RELEASE_RP), (pdu.abort(Reason.UNEXPECTED_PDU), A_ABORT_RQ)),
        *((pdu.abort(None), A_ABORT_RQ), (pdu.associate_rj(pdu.TOO_MANY), A_ASSOCIATE_RJ)),
    ],
)
def test_the_short_ones_are_pynetdicoms_to_the_byte(ours: tuple[bytes, Any]) -> None:
    read = ours[1]()
    read.decode(ours[0])
    assert read.encode() == ours[0]


@given(st.binary(min_size=1, max_size=500), st.binary(max_size=2000), st.integers(128, 1000))
def test_a_message_is_cut_into_what_the_peer_takes(command: bytes, data: bytes, most: int) -> None:
    parts: dict[int, bytes] = {pdu.COMMAND: b"", 0: b""}
    last = []
    for each in pdu.message(5, command, data, most):
        kind, length = pdu.HEAD.unpack_from(each)
        size, context, control = pdu.PDV_HEAD.unpack_from(each, pdu.HEAD.size)
        assert (kind, length, context) == (Kind.DATA, len(each) - 6, 5)
        assert length <= most
        assert size == length - 4
        parts[control & pdu.COMMAND] += each[12:]
        last.append((control & pdu.COMMAND, control & pdu.LAST))
    assert parts == {pdu.COMMAND: command, 0: data}
    assert [each for each in last if each[1]] == [(1, 2), (0, 2)][: 2 if data else 1]
    assert last[-1][1]


WHOLE = request([(CTImageStorage, [EXPLICIT, IMPLICIT])], {CTImageStorage: (True, True)})[6:]


@given(st.binary(max_size=300))
def test_nonsense_is_no_request(content: bytes) -> None:
    for body in (content, WHOLE[:68] + content):
        with contextlib.suppress(PduBroken):
            agree(read_associate(body), [FIND])


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_request_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(68, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PduBroken):
        found = read_associate(bytes(content[: data.draw(st.integers(0, len(content)))]))
        agreed = agree(found, [FIND])
        pdu.associate_ac(
            found, agreed.answers, agreed.roles, max_pdu=1, implementation="1", version="1"
        )


def item(kind: int, content: bytes) -> bytes:
    return bytes((kind, 0)) + len(content).to_bytes(2) + content


CONTEXT = item(0x20, b"\1\0\0\0" + item(0x30, b"1.2") + item(0x40, b"1.2"))


@pytest.mark.parametrize(
    ("items", "why"),
    [
        (b"", "no presentation context"),
        (CONTEXT + CONTEXT, "one id"),
        (item(0x20, b"\2\0\0\0" + CONTEXT[8:]), "odd id"),
        (item(0x20, b"\1\0"), "odd id"),
        (item(0x20, b"\1\0\0\0" + item(0x30, b"1.2")), "syntaxes"),
        (item(0x20, b"\1\0\0\0" + item(0x40, b"1.2")), "syntaxes"),
        (CONTEXT + b"\x20\0\xff\xff", "longer"),
        (CONTEXT + b"\x20", "cut off"),
        (CONTEXT + item(0x50, item(0x51, b"\0\0\0\1")), "no answer"),
        (CONTEXT + item(0x50, item(0x51, b"\1")), "another length"),
        (CONTEXT + item(0x50, item(0x54, b"\0\x091.2")), "another length"),
    ],
)
def test_what_is_no_request_says_why(items: bytes, why: str) -> None:
    with pytest.raises(PduBroken, match=why):
        read_associate(WHOLE[:68] + items)


def test_a_request_that_was_cut_off_before_its_items_is_none() -> None:
    with pytest.raises(PduBroken, match="cut off"):
        read_associate(WHOLE[:67])
