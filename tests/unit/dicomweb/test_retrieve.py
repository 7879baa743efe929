"""WADO-RS of the hub: what comes is what is stored, in the form that was asked for, and only for
whom it is."""

import io
import re
from collections.abc import AsyncIterator
from pathlib import Path

import jpeg_ls
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless

from lianzhen_protocol.consultation import State
from lianzhen_protocol.imaging import Instance, study_key
from lianzhen_runtime.dicomweb.media import JPEG_LS
from support.archive_hub import ADMIN, NODE, STRANGER, ArchiveHub, archive_hub, part10
from support.consultations import EXPERT
from support.modality import ct_slice

STUDY, SERIES = "1.2.3", "1.2.3.4"
ALL = f"/studies/{STUDY}"
FRAMES_AS_STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[ArchiveHub]:
    async with archive_hub(tmp_path) as found:
        yield found


@pytest.fixture
async def image(archive: ArchiveHub) -> Instance:
    """One of two slices on the expert's case."""
    await archive.keep(part10(ct_slice(1, STUDY, SERIES)))
    found = await archive.keep(part10(ct_slice(2, STUDY, SERIES)))
    await archive.case(study_key(NODE, STUDY))
    return found


def at(image: Instance) -> str:
    return f"{ALL}/series/{SERIES}/instances/{image.sop_uid}"


def parts(type_: str, body: bytes) -> list[tuple[bytes, bytes]]:
    """Head and content of each part, told apart by hand."""
    boundary = re.search(r'boundary="([^"]+)"', type_)
    assert boundary is not None
    first, *rest, last = body.split(b"--" + boundary[1].encode())
    assert (first, last) == (b"", b"--\r\n")
    pairs = [one.removeprefix(b"\r\n").split(b"\r\n\r\n", 1) for one in rest]
    return [(head, content.removesuffix(b"\r\n")) for head, content in pairs]


async def test_metadata(archive: ArchiveHub, image: Instance) -> None:
    for path in (ALL, f"{ALL}/series/{SERIES}", at(image)):
        answer = await archive.get(f"{path}/metadata", Accept="application/dicom+json")
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "application/dicom+json"
        found = await answer.json(content_type=None)
        assert found[-1]["00080018"]["Value"] == [image.sop_uid]
        assert found[-1]["00100010"]["Value"] == [{"Alphabetic": "测试^患者"}]
        assert found[-1]["7FE00010"]["BulkDataURI"].endswith(f"{at(image)}/bulkdata/7FE00010")
        tag = answer.headers["ETag"]
        again = await archive.get(f"{path}/metadata", If_None_Match=tag)
        assert (again.status, await again.read()) == (304, b"")


async def test_frames_as_they_are_and_as_jpeg_ls(archive: ArchiveHub, image: Instance) -> None:
    pixels = ct_slice(2, STUDY, SERIES).PixelData
    for accept in (FRAMES_AS_STORED, "*/*", "multipart/related; type=application/octet-stream"):
        answer = await archive.get(f"{at(image)}/frames/1", Accept=accept)
        ((head, content),) = parts(answer.headers["Content-Type"], await answer.read())
        assert content == pixels
        assert b"transfer-syntax=1.2.840.10008.1.2.1" in head
    alone = await archive.get(f"{at(image)}/frames/1", Accept="application/octet-stream")
    assert await alone.read() == pixels
    accept = f'multipart/related; type="image/jls"; transfer-syntax={JPEG_LS}, */*; q=0.1'
    answer = await archive.get(f"{at(image)}/frames/1", Accept=accept)
    ((head, content),) = parts(answer.headers["Content-Type"], await answer.read())
    assert b"Content-Type: image/jls" in head
    assert jpeg_ls.decode_pixel_data(content)[0] == pixels


async def test_ranges_and_what_the_client_has(archive: ArchiveHub, image: Instance) -> None:
    path = f"{at(image)}/frames/1"
    whole = await archive.get(path, Accept="application/octet-stream")
    body, tag = await whole.read(), whole.headers["ETag"]
    assert whole.headers["Cache-Control"].startswith("private")
    some = await archive.get(path, Accept="application/octet-stream", Range="bytes=100-199")
    assert (some.status, await some.read()) == (206, body[100:200])
    assert some.headers["Content-Range"] == f"bytes 100-199/{len(body)}"
    end = await archive.get(
        path, Accept="application/octet-stream", Range="bytes=-10", If_Range=tag
    )
    assert (end.status, await end.read()) == (206, body[-10:])
    other = await archive.get(
        path, Accept="application/octet-stream", Range="bytes=0-9", If_Range='"old"'
    )
    assert (other.status, len(await other.read())) == (200, len(body))
    beyond = await archive.get(path, Accept="application/octet-stream", Range="bytes=999999-")
    assert beyond.status == 416
    known = await archive.get(path, Accept="application/octet-stream", If_None_Match=tag)
    assert known.status == 304


async def test_instances_and_studies(archive: ArchiveHub, image: Instance) -> None:
    file = part10(ct_slice(2, STUDY, SERIES))
    alone = await archive.get(at(image), Accept="application/dicom; transfer-syntax=*")
    content = await alone.read()
    assert pydicom.dcmread(io.BytesIO(content)).PixelData == ct_slice(2, STUDY, SERIES).PixelData
    assert len(content) == len(file)
    for path, count in ((ALL, 2), (f"{ALL}/series/{SERIES}", 2), (at(image), 1)):
        answer = await archive.get(path, Accept='multipart/related; type="application/dicom"')
        assert answer.status == 200, await answer.text()
        found = parts(answer.headers["Content-Type"], await answer.read())
        assert len(found) == count
        assert found[-1][1] == content


async def test_another_transfer_syntax(archive: ArchiveHub) -> None:
    plain = ct_slice(1, STUDY, SERIES, PixelRepresentation=1)
    pixels = plain.PixelData
    plain.compress(JPEGLSLossless, generate_instance_uid=False)
    image = await archive.keep(part10(plain))
    await archive.case(study_key(NODE, STUDY))
    stored = await archive.get(at(image), Accept="application/dicom; transfer-syntax=*")
    assert stored.headers["Content-Type"].endswith(JPEG_LS)
    made = await archive.get(at(image), Accept="application/dicom")
    found = pydicom.dcmread(io.BytesIO(await made.read()))
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert found.PixelData == pixels
    assert found.SOPInstanceUID == image.sop_uid
    frame = await archive.get(f"{at(image)}/frames/1", Accept="application/octet-stream")
    assert await frame.read() == pixels


async def test_what_is_not_to_be_had(archive: ArchiveHub, image: Instance) -> None:
    for path, accept in (
        ("/metadata", "application/pdf"),
        ("/metadata", "application/dicom+json; q=0"),
        ("", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90"),
        ("", "text/plain"),
        ("/frames/1", 'multipart/related; type="image/jp2"'),
        ("/frames/1", "image/jpeg"),
    ):
        answer = await archive.get(at(image) + path, Accept=accept)
        assert answer.status == 406, (path, accept)
        assert (await answer.json(content_type=None))["code"] == "not-acceptable"
    for frames in ("0", "2", "1,2", "x", "1,", "99999999"):
        assert (await archive.get(f"{at(image)}/frames/{frames}")).status == 404


async def test_only_for_whom_it_is(archive: ArchiveHub, image: Instance) -> None:
    paths = [ALL, f"{ALL}/metadata", at(image), f"{at(image)}/frames/1"]
    for path in paths:
        assert (await archive.get(path, ADMIN)).status == 200
        assert (await archive.get(path, STRANGER)).status == 404
        assert (await archive.get(path, "")).status == 401
    await archive.case(study_key(NODE, STUDY), state=State.CANCELLED)
    for path in paths:
        assert (await archive.get(path)).status == 404
    assert (await archive.get("/studies/9.9/metadata", ADMIN)).status == 404


async def test_every_look_is_noted_once(archive: ArchiveHub, image: Instance) -> None:
    for _ in range(3):
        await (await archive.get(f"{at(image)}/frames/1")).read()
        await (await archive.get(f"{ALL}/metadata")).read()
    await (await archive.get(at(image))).read()
    await (await archive.get(ALL)).read()
    rows = [row for row in await archive.audited() if row[0] == EXPERT.id]
    assert rows == [
        (EXPERT.id, "read", f"study/{image.study}"),
        (EXPERT.id, "export", f"instance/{image.id}"),
        (EXPERT.id, "export", f"study/{image.study}"),
    ]


async def test_an_ultrasound_of_many_frames(archive: ArchiveHub) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)
    cine = ct_slice(1, STUDY, SERIES, Modality="US", NumberOfFrames=5, Rows=16, Columns=24)
    cine.SamplesPerPixel, cine.PhotometricInterpretation, cine.PlanarConfiguration = 3, "RGB", 0
    cine.BitsAllocated = cine.BitsStored = 8
    cine.HighBit, cine.PixelData = 7, pixels.tobytes()
    image = await archive.keep(part10(cine))
    await archive.case(study_key(NODE, STUDY))
    answer = await archive.get(f"{at(image)}/frames/4,2")
    found = parts(answer.headers["Content-Type"], await answer.read())
    assert [content for _, content in found] == [pixels[3].tobytes(), pixels[1].tobytes()]
    lossless = await archive.get(f"{at(image)}/frames/5", Accept="image/jls")
    assert jpeg_ls.decode_pixel_data(await lossless.read())[0] == pixels[4].tobytes()
    bulk = await archive.get(f"{at(image)}/bulkdata/7FE00010", Accept="application/octet-stream")
    assert await bulk.read() == pixels.tobytes()
