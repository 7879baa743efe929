"""Storage commitment, asked for by pynetdicom: nothing may be deleted before it is safe."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import MRImageStorage, generate_uid

from lianzhen_edge.dicom import commitments
from lianzhen_edge.dicom.commitments import Commitment
from lianzhen_edge.dicom.services import commitment
from lianzhen_protocol.imaging import scanner_key
from support.commitment import Modality, missing, uids
from support.dicom_node import DicomNode, dicom_node
from support.people import NODE


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DicomNode]:
    monkeypatch.setattr(commitment, "_DUE_SECONDS", 0.05)
    monkeypatch.setattr(commitment, "_FIRST_PAUSE", 0.1)
    async with dicom_node(tmp_path) as found:
        yield found


async def test_success_on_the_same_association_once_all_is_safe_and_not_before(
    node: DicomNode,
) -> None:
    images, modality, transaction = await node.send(3), Modality(), generate_uid()
    async with asyncio.TaskGroup() as tasks:
        asked = asyncio.to_thread(modality.ask, node.port, images, transaction, stay=True)
        asking = tasks.create_task(asked)
        await node.until(lambda: bool(node.box.journal.sheets.find(Commitment)))
        await node.safe(*list(uids(images))[:2])
        assert node.box.imaging.commitments.decided() == []
        assert modality.told == []
        await node.safe()
    assert asking.result() == 0
    assert modality.report() == (1, transaction, uids(images), {})
    await node.until(lambda: not node.box.journal.sheets.find(Commitment, state="waiting"))
    assert len(modality.told) == 1


async def test_on_a_new_association_tried_until_it_is_taken(
    node: DicomNode,
) -> None:
    images, modality, transaction = await node.send(2), Modality(), generate_uid()
    assert await asyncio.to_thread(
        modality.ask, node.port, images, transaction, stay=False
    ) == 0  # fmt: skip
    await node.safe()
    key = scanner_key(NODE, "CT1", "127.0.0.1")
    (kept,) = node.box.journal.sheets.find(Commitment, owner=key)  # nobody knows its port
    (decided,) = node.box.imaging.commitments.decided()
    assert (decided.id, decided.port) == (kept.id, 0)
    with modality.listening() as port:
        modality.status = 0x0110
        await node.admit("CT1", port=port)
        await node.until(lambda: len(modality.told) >= 2)  # it was refused, and comes again
        modality.status = 0
        await node.until(lambda: not node.box.journal.sheets.find(Commitment, state="waiting"))
    assert modality.report() == (1, transaction, uids(images), {})


async def test_each_image_that_cannot_be_committed_is_named_with_its_reason(
    node: DicomNode,
) -> None:
    images, modality, transaction = await node.send(2), Modality(), generate_uid()
    await node.safe()
    gone, other = missing(), missing(MRImageStorage)
    other.SOPInstanceUID = images[1].SOPInstanceUID
    asked = [images[0], gone, other]
    await asyncio.to_thread(modality.ask, node.port, asked, transaction, stay=True)
    event, _, done, failed = modality.report()
    assert (event, done) == (2, uids(images[:1]))
    assert failed == {str(gone.SOPInstanceUID): 0x0112, str(other.SOPInstanceUID): 0x0119}


async def test_a_transaction_uid_is_used_once_and_the_same_request_again_is_the_same(
    node: DicomNode,
) -> None:
    images, modality, transaction = await node.send(2), Modality(), generate_uid()
    for _ in range(2):
        await asyncio.to_thread(modality.ask, node.port, images, transaction, stay=False)
    assert len(node.box.journal.sheets.find(Commitment)) == 1
    await node.safe()
    await asyncio.to_thread(modality.ask, node.port, images[:1], transaction, stay=True)
    assert modality.report() == (
        2, transaction, set(), {str(images[0].SOPInstanceUID): 0x0131},
    )  # fmt: skip


async def test_durable_here_is_enough_where_the_modalitys_row_says_so(node: DicomNode) -> None:
    images, modality, transaction = await node.send(1), Modality(), generate_uid()
    await node.admit("CT1", commits_here=True)
    await asyncio.to_thread(modality.ask, node.port, images, transaction, stay=True)
    assert modality.report() == (1, transaction, uids(images), {})


async def test_who_never_listens_may_not_ask_for_ever(
    node: DicomNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitments, "MOST_WAITING", 2)
    images, modality = await node.send(1), Modality()

    def ask() -> int:
        return modality.ask(node.port, images, generate_uid(), stay=False)

    assert [await asyncio.to_thread(ask) for _ in range(3)] == [0, 0, 0x0213]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({"action": 2}, 0x0123), ({"instance": "1.2.3"}, 0x0112)],
)
async def test_what_is_no_request_is_refused_and_nothing_is_kept(
    node: DicomNode, wrong: dict[str, Any], status: int
) -> None:
    modality = Modality()
    said = await asyncio.to_thread(
        lambda: modality.ask(node.port, [missing()], generate_uid(), stay=False, **wrong)
    )
    assert said == status
    nothing = await asyncio.to_thread(
        lambda: modality.ask(node.port, [], generate_uid(), stay=False)
    )
    assert nothing == 0x0115
    assert node.box.journal.sheets.find(Commitment) == []
