"""STOW-RS at the hub, and the tokens that clients come with."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from lianzhen_hub.dicomweb import tokens
from lianzhen_hub.page import HubPage
from lianzhen_protocol.accounts import Account
from lianzhen_protocol.imaging import Study, study_key
from support.archive_hub import ADMIN, NODE, STRANGER, ArchiveHub, archive_hub, part10
from support.consultations import EXPERT
from support.modality import ct_slice

STUDY, SERIES = "1.2.3", "1.2.3.4"
FAILED, DONE, REASON = "00081198", "00081199", "00081197"


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[ArchiveHub]:
    async with archive_hub(tmp_path) as found:
        await found.keep(part10(ct_slice(1, STUDY, SERIES)))
        await found.case(study_key(NODE, STUDY))
        yield found


def token_for_the_expert(page: HubPage) -> str:
    account = page.get(Account, EXPERT.id)
    assert account is not None
    return tokens.issue(page, account, 1, "admin")


def message(*files: bytes, boundary: str = "b-1", type_: str = "application/dicom") -> bytes:
    head = f"\r\n--{boundary}\r\nContent-Type: {type_}\r\n\r\n".encode()
    return b"".join(head + file for file in files) + f"\r\n--{boundary}--\r\n".encode()


async def post(
    archive: ArchiveHub, body: bytes, who: str = EXPERT.id, path: str = "", **headers: str
) -> tuple[int, dict[str, dict[str, list[dict[str, dict[str, list[object]]]]]]]:
    type_ = 'multipart/related; type="application/dicom"; boundary=b-1'
    sent = {"Content-Type": type_} | archive.as_(who) | headers
    answer = await archive.client.post(f"/dicomweb/studies{path}", data=body, headers=sent)
    return answer.status, await answer.json(content_type=None)


async def test_stored_by_a_client_and_read_again(archive: ArchiveHub) -> None:
    token = await archive.hub.transact(token_for_the_expert)
    url = str(archive.client.make_url("/dicomweb"))
    peer = DICOMwebClient(url, headers={"Authorization": f"Bearer {token}"})
    images = [ct_slice(number, STUDY, f"{SERIES}.7", side=32) for number in (5, 6)]
    found = await asyncio.to_thread(peer.store_instances, images)
    assert [one.ReferencedSOPInstanceUID for one in found.ReferencedSOPSequence] == [
        image.SOPInstanceUID for image in images
    ]
    again = await asyncio.to_thread(peer.store_instances, images)  # once is as good as twice
    assert len(again.ReferencedSOPSequence) == 2
    assert len(await asyncio.to_thread(peer.retrieve_study, STUDY)) == 3
    (study,) = await asyncio.to_thread(peer.search_for_studies)
    assert study["00201208"]["Value"] == [3]
    rows = [row for row in await archive.audited() if row[1] == "create" and "instance" in row[2]]
    assert len(rows) == 2
    # A box's own numbers are its own.
    own = await archive.hub.consult(lambda sheets: sheets.get(Study, study_key(NODE, STUDY)))
    assert own is not None
    assert (own.stored, own.received) == (1, 1)
    await archive.hub.transact(
        lambda page: tokens.revoke(page, tokens.listed(page, page.now_ms)[0].id, "admin")
    )
    answer = await archive.get("/studies", "", Authorization=f"Bearer {token}")
    assert answer.status == 401


async def test_each_instance_has_its_own_answer(archive: ArchiveHub) -> None:
    good = ct_slice(2, STUDY, SERIES)
    other = ct_slice(3, STUDY, SERIES)
    other.SOPInstanceUID = good.SOPInstanceUID  # and other pixels
    body = message(part10(good), part10(other), b"no image", part10(good)[:-20])
    status, found = await post(archive, body)
    assert status == 202
    assert len(found[DONE]["Value"]) == 1
    reasons = [one[REASON]["Value"][0] for one in found[FAILED]["Value"]]
    assert reasons == [0x0111, 0xC000, 0xC000]
    kept = await archive.get(
        f"/studies/{STUDY}/series/{SERIES}/instances/{good.SOPInstanceUID}",
        Accept="application/dicom",
    )
    assert pydicom.dcmread(io.BytesIO(await kept.read())).PixelData == good.PixelData
    status, found = await post(archive, message(part10(ct_slice(4, STUDY, SERIES))), path="/9.9")
    assert status == 409
    assert found[FAILED]["Value"][0][REASON]["Value"] == [0xA900]


async def test_only_into_what_is_theirs(archive: ArchiveHub) -> None:
    mine, new = part10(ct_slice(2, STUDY, SERIES)), part10(ct_slice(2, "1.2.9", "1.2.9.1"))
    for who, file, wanted in (
        (STRANGER, mine, 409),
        (EXPERT.id, new, 409),
        (STRANGER, new, 409),
        (ADMIN, new, 200),
        (EXPERT.id, mine, 200),
        ("", mine, 401),
    ):
        status, found = await post(archive, message(file), who)
        assert status == wanted, (who, found)
        if wanted == 409:
            assert found[FAILED]["Value"][0][REASON]["Value"] == [0x0124]
    foreign = await archive.client.post(
        "/dicomweb/studies",
        data=message(mine),
        headers=archive.as_(EXPERT.id) | {"Origin": "https://elsewhere.example"},
    )
    assert foreign.status == 403


async def test_messages_that_are_none(archive: ArchiveHub) -> None:
    file = part10(ct_slice(2, STUDY, SERIES))
    whole = message(file)
    for body, type_, wanted in (
        (whole[:-10], 'multipart/related; type="application/dicom"; boundary=b-1', 400),
        (b"", 'multipart/related; type="application/dicom"; boundary=b-1', 400),
        (message(), 'multipart/related; type="application/dicom"; boundary=b-1', 400),
        (whole, 'multipart/related; type="application/dicom"', 415),
        (whole, 'multipart/related; type="application/dicom+xml"; boundary=b-1', 415),
        (file, "application/dicom", 415),
    ):
        status, _ = await post(archive, body, **{"Content-Type": type_})
        assert status == wanted, type_


async def test_tokens_open_only_dicomweb_and_end(archive: ArchiveHub) -> None:
    token = await archive.hub.transact(token_for_the_expert)
    said = {"Authorization": f"Bearer {token}"}
    assert (await archive.client.get("/dicomweb/studies", headers=said)).status == 200
    assert (
        await archive.client.get(f"/studies/{study_key(NODE, STUDY)}", headers=said)
    ).status == 401
    for wrong in (f"Bearer {token}x", "Bearer", f"Basic {token}", "Bearer lzdw_"):
        # Whoever shows a token is taken by that alone.
        headers = {"Authorization": wrong} | archive.as_(EXPERT.id)
        answer = await archive.client.get("/dicomweb/studies", headers=headers)
        assert answer.status == 401, wrong
    rows = await archive.hub.consult(lambda sheets: sheets.find(tokens.WebToken))
    assert token not in repr(rows)
    now_ms = archive.hub.now_ms()
    now, later = await archive.hub.consult(
        lambda sheets: [tokens.seated(sheets, token, now_ms + ms) for ms in (0, 3_600_001)]
    )
    assert now is not None
    assert later is None
