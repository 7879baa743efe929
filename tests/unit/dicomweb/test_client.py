"""A DICOMweb client that we did not write, against the hub's console."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from lianzhen_protocol.imaging import study_key
from support.archive_hub import ADMIN, NODE, STRANGER, ArchiveHub, archive_hub, part10
from support.consultations import EXPERT
from support.modality import ct_slice

STUDY, SERIES, OTHER = "1.2.3", "1.2.3.4", "1.2.5"


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[ArchiveHub]:
    """Twelve slices in two series on the expert's case, and another study that is on none."""
    async with archive_hub(tmp_path) as found:
        for number in range(12):
            series = SERIES if number < 8 else f"{SERIES}.9"
            image = ct_slice(number, STUDY, series, side=32, StudyTime="101112", StudyID="7")
            image.SeriesNumber = 1 if number < 8 else 2
            await found.keep(part10(image))
        other = ct_slice(1, OTHER, f"{OTHER}.1", side=32, PatientName="毛^平", StudyDate="20250101")
        await found.keep(part10(other))
        await found.case(study_key(NODE, STUDY))
        yield found


def client(archive: ArchiveHub, who: str = EXPERT.id) -> DICOMwebClient:
    url = str(archive.client.make_url("/dicomweb"))
    return DICOMwebClient(url, headers=archive.as_(who))


async def aside(work: Callable[..., Any], *args: Any, **more: Any) -> Any:
    return await asyncio.to_thread(work, *args, **more)


async def test_search(archive: ArchiveHub) -> None:
    peer = client(archive)
    (found,) = await aside(peer.search_for_studies)
    study = pydicom.Dataset.from_json(found)
    assert study.StudyInstanceUID == STUDY
    assert str(study.PatientName) == "测试^患者"
    assert (study.StudyDate, study.StudyTime, study.StudyID) == ("20261124", "101112", "7")
    assert study.ModalitiesInStudy == "CT"
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (2, 12)
    series = await aside(peer.search_for_series, STUDY)
    assert [one["00201209"]["Value"] for one in series] == [[8], [4]]
    images = await aside(peer.search_for_instances, STUDY, f"{SERIES}.9")
    assert [one["00200013"]["Value"][0] for one in images] == [8, 9, 10, 11]
    assert images[0]["00280010"]["Value"] == [32]
    assert len(await aside(peer.search_for_instances, STUDY)) == 12
    assert await aside(client(archive, STRANGER).search_for_studies) == []
    assert len(await aside(client(archive, ADMIN).search_for_studies)) == 2


async def test_matching(archive: ArchiveHub) -> None:
    peer = client(archive, ADMIN)
    for filters, wanted in (
        ({"PatientName": "测试*"}, [STUDY]),
        ({"PatientName": "毛?平"}, [OTHER]),
        ({"00100010": "*"}, [STUDY, OTHER]),
        ({"StudyDate": "20260101-20261231"}, [STUDY]),
        ({"StudyDate": "-20251231"}, [OTHER]),
        ({"StudyDate": "20250101"}, [OTHER]),
        ({"ModalitiesInStudy": "MR"}, []),
        ({"StudyID": "7"}, [STUDY]),
        ({"StudyInstanceUID": f"{OTHER},9.9"}, [OTHER]),
        ({"PatientID": "P-0001", "StudyTime": "10-11"}, [STUDY]),
    ):
        found = await aside(peer.search_for_studies, search_filters=filters)
        assert {one["0020000D"]["Value"][0] for one in found} == set(wanted), filters
    paged = [await aside(peer.search_for_studies, limit=1, offset=at) for at in range(3)]
    assert [len(page) for page in paged] == [1, 1, 0]
    assert paged[0] != paged[1]
    (one,) = await aside(peer.search_for_instances, STUDY, search_filters={"InstanceNumber": 3})
    assert "00281052" not in one
    fields = ["Manufacturer", "BitsStored"]
    (one,) = await aside(
        peer.search_for_instances, STUDY, search_filters={"InstanceNumber": 3}, fields=fields
    )
    assert one["00280101"]["Value"] == [16]
    fuzzy = await archive.get("/studies?fuzzymatching=true&PatientName=x")
    assert "fuzzymatching" in fuzzy.headers["Warning"]
    assert await fuzzy.json(content_type=None) == []
    for bad in ("NoSuchKeyword=1", "limit=x", "limit=-1", "includefield=zzz", "a.b.c.d.e=1"):
        assert (await archive.get(f"/studies?{bad}")).status == 400, bad


async def test_retrieval(archive: ArchiveHub) -> None:
    peer = client(archive)
    whole = await aside(peer.retrieve_study, STUDY)
    assert len(whole) == 12
    sent = {image.SOPInstanceUID: image for image in whole}
    metadata = await aside(peer.retrieve_series_metadata, STUDY, SERIES)
    assert len(metadata) == 8
    uid = metadata[3]["00080018"]["Value"][0]
    image = await aside(peer.retrieve_instance, STUDY, SERIES, uid)
    assert image.PixelData == sent[uid].PixelData
    one = (STUDY, SERIES, uid)
    for types in (None, (("application/octet-stream", "1.2.840.10008.1.2.1"),)):
        frames = await aside(peer.retrieve_instance_frames, *one, [1], media_types=types)
        assert frames == [image.PixelData]
    found = await aside(peer.retrieve_instance_frames, *one, [1], media_types=(("image/jls", "*"),))
    assert len(found) == 1
    (bulk,) = await aside(peer.retrieve_bulkdata, metadata[3]["7FE00010"]["BulkDataURI"])
    assert bulk == image.PixelData
    described = pydicom.Dataset.from_json(metadata[3], bulk_data_uri_handler=lambda *_: b"")
    for element in image:
        if element.tag != 0x7FE00010:
            assert described[element.tag].value == element.value


async def test_pictures(archive: ArchiveHub) -> None:
    from PIL import Image

    peer = client(archive)
    metadata = await aside(peer.retrieve_series_metadata, STUDY, SERIES)
    one = (STUDY, SERIES, metadata[0]["00080018"]["Value"][0])
    for types in (None, ("image/png",), ("image/jpeg",)):
        content = await aside(peer.retrieve_instance_rendered, *one, media_types=types)
        assert Image.open(io.BytesIO(content)).size == (32, 32)
    dark, bright = [
        await aside(
            peer.retrieve_instance_rendered,
            *one,
            media_types=("image/png",),
            params={"window": f"{centre},100,linear", "viewport": "16,16"},
        )
        for centre in (9000, -9000)
    ]
    assert np.asarray(Image.open(io.BytesIO(dark))).max() == 0
    assert np.asarray(Image.open(io.BytesIO(bright))).min() == 255
    thumbnail = await archive.get(f"/studies/{STUDY}/thumbnail?viewport=8,8")
    assert Image.open(io.BytesIO(await thumbnail.read())).size == (8, 8)
    series = await archive.get(f"/studies/{STUDY}/series/{SERIES}.9/rendered")
    assert (await series.read()).count(b"Content-Type: image/jpeg") == 4
    path = f"/studies/{one[0]}/series/{one[1]}/instances/{one[2]}/rendered"
    for bad in ("viewport=x", "window=1", "quality=0", "viewport=99999,1", "window=nan,1,linear"):
        assert (await archive.get(f"{path}?{bad}")).status == 400, bad
    assert (await archive.get(path, Accept="image/gif")).status == 406
