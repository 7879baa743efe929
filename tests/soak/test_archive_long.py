"""A whole CT through box and hub, and out by DICOMweb as it came; and the hub's answers beside
Orthanc's for the same files."""

import io
import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient

from bench.peers.orthanc import PLUGIN
from bench.peers.peer import Server, program
from lab import Lab, ask, free_ports, wait_until
from lianzhen_protocol.accounts import Role
from support.consoles import clinic_people, hub_people
from support.modality import elements, series, storescu

SLICES = 300
_OURS_ALONE = {"00083002"}


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[str]:
    """Where a plain one has DICOMweb and its own interface."""
    folder = tmp_path / "orthanc"
    folder.mkdir()
    (port,) = free_ports(1)
    configuration = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [str(PLUGIN)],
        "DicomServerEnabled": False,
        "HttpPort": port,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "DefaultEncoding": "Utf8",
        "Locale": "C.UTF-8",
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with ExitStack() as ends:
        server = Server((program("Orthanc") or "Orthanc", "orthanc.json"), folder, port)
        ends.callback(server.end)
        yield f"http://127.0.0.1:{port}"


def uid(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def put(url: str, files: list[Path]) -> None:
    for path in files:
        request = urllib.request.Request(f"{url}/instances", path.read_bytes(), method="POST")
        urllib.request.urlopen(request, timeout=60).close()


@pytest.mark.timeout(1500)
@pytest.mark.filterwarnings("ignore:Unverified HTTPS")  # trust has tests of its own
def test_a_ct_of_300_slices_comes_out_as_it_went_in_and_is_told_as_orthanc_tells_it(
    place: Lab, tmp_path: Path, orthanc: str
) -> None:
    (port,) = free_ports(1)
    hub = place.hub().start().wait()
    box = place.box("BOX-1", dicom_port=port).start()
    box.enrol(hub)
    doctor = clinic_people(box).of(Role.DOCTOR).caller
    storescu(port, series(tmp_path, 1))  # it knocks, and is let in
    for one in doctor.get("/modalities").body["others"]:
        assert doctor.post(f"/modalities/{one['id']}/admit").status == 200
    (tmp_path / "ct").mkdir()
    files = series(tmp_path / "ct", SLICES, side=512)
    assert storescu(port, files).good == files
    admin = hub_people(hub).of(Role.ADMIN)
    made = ask(
        hub.state / "admin.sock", "POST", "/tokens", json.dumps({"login": admin.login}).encode()
    )
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    url = f"https://127.0.0.1:{admin.caller.port}/dicomweb"
    session = requests.Session()
    session.verify, session.trust_env = False, False
    ours = DICOMwebClient(url, session, headers={"Authorization": f"Bearer {made.body['token']}"})

    def counted() -> int:
        found = ours.search_for_studies(search_filters={"StudyInstanceUID": study})
        return int(found[0]["00201208"]["Value"][0]) if found else 0

    wait_until("all of it at the hub", lambda: counted() == SLICES, seconds=600)
    sent = {
        str(pydicom.dcmread(path).SOPInstanceUID): elements(path.read_bytes()) for path in files
    }
    for accept in (("application/dicom", "*"), "application/dicom"):
        count = 0
        for image in ours.iter_study(study, media_types=(accept,)):
            out = io.BytesIO()
            image.save_as(out, enforce_file_format=True)
            assert elements(out.getvalue()) == sent[str(image.SOPInstanceUID)]
            count += 1
        assert count == SLICES
    put(orthanc, files[:20])
    theirs = DICOMwebClient(f"{orthanc}/dicom-web")
    _same_metadata(ours, theirs, study)
    _same_search(ours, theirs, study)


def _same_metadata(ours: DICOMwebClient, theirs: DICOMwebClient, study: str) -> None:
    mine = {one["00080018"]["Value"][0]: one for one in ours.retrieve_study_metadata(study)}
    for other in theirs.retrieve_study_metadata(study):
        own = mine[other["00080018"]["Value"][0]]
        tags = {tag for tag in other if tag != "7FE00010" and not tag.startswith("0002")}
        assert tags <= own.keys()
        assert own.keys() - tags <= _OURS_ALONE | {"7FE00010"}
        for tag in tags:
            assert _plain(own[tag]) == _plain(other[tag]), tag


def _same_search(ours: DICOMwebClient, theirs: DICOMwebClient, study: str) -> None:
    wanted = {"StudyInstanceUID": study}
    (mine,), (other,) = (one.search_for_studies(search_filters=wanted) for one in (ours, theirs))
    for tag in ("00080020", "00080061", "00100010", "00100020", "0020000D", "00201206"):
        assert _plain(mine[tag]) == _plain(other[tag]), tag
    (mine,), (other,) = (one.search_for_series(study) for one in (ours, theirs))
    for tag in ("00080060", "0020000E", "00200011"):
        assert _plain(mine[tag]) == _plain(other[tag]), tag


def _plain(attribute: dict[str, Any]) -> tuple[str, list[Any]]:
    """Numbers may be told as text (PS3.18, F.2.3)."""
    values = attribute.get("Value", [])
    if attribute["vr"] in ("DS", "IS"):
        values = [float(value) for value in values]
    return attribute["vr"], values
