"""Images from dcmtk to the hub, on real programs: refused, admitted, seen, sent, received, safe."""

import hashlib
import io
import json
import os
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from sqlalchemy import Connection

from lab import BoxProgram, HubProgram, Lab, free_ports, wait_until
from lianzhen_hub.imaging.store import ObjectStore
from lianzhen_hub.imaging.stores import FileStore, Name
from lianzhen_hub.ingest.vault import Vault
from lianzhen_hub.store.database import Database, sqlite_url
from lianzhen_hub.store.sheets import HubSheets
from lianzhen_protocol.accounts import Role
from lianzhen_protocol.imaging import SAFE, Instance, Study
from lianzhen_protocol.orders import accession
from lianzhen_runtime.keys import FileKeys
from support.commitment import Modality, uids
from support.consoles import Caller, People, Person, clinic_people, hub_people
from support.modality import (
    DCMTK,
    NAME,
    association,
    ct_slice,
    elements,
    pixels,
    series,
    storescu,
    ultrasound_cine,
    ultrasound_report,
)
from support.patients import registered

T = TypeVar("T")
PACKAGED = ("CT_small.dcm", "examples_rgb_color.dcm")


@dataclass
class Site:
    """A hub, a box with a DICOM port, and who works there."""

    hub: HubProgram
    box: BoxProgram
    port: int
    clinic: People
    centre: People

    @property
    def doctor(self) -> Person:
        return self.clinic.of(Role.DOCTOR)

    @property
    def admin(self) -> Person:
        return self.centre.of(Role.ADMIN)

    def at_hub(self) -> list[Instance]:
        """Every image that the hub has announced, by its own tables."""
        return self._read(lambda sheets: sheets.find(Instance, limit=10_000))

    def studies(self) -> list[Study]:
        return self._read(lambda sheets: sheets.find(Study))

    def _read(self, look: Callable[[HubSheets], T]) -> T:
        keys = FileKeys(self.hub.state / "keys")
        database = Database(sqlite_url(self.hub.state / "hub.db"))

        def reading(connection: Connection) -> T:
            return look(HubSheets(connection, Vault(keys, database)))

        try:
            with database.engine.connect().execution_options(reader=True) as connection:
                return reading(connection)
        finally:
            database.engine.dispose()

    def safe(self) -> set[str]:
        """SOP Instance UIDs of which the hub holds the original."""
        return {image.sop_uid for image in self.at_hub() if image.state == SAFE}

    def original(self, image: Instance) -> bytes:
        folder, keys = self.hub.state / "images", FileKeys(self.hub.state / "keys")
        store = ObjectStore(folder, keys, FileStore(folder))
        return b"".join(store.read(Name(image.node, image.id, "original")))

    def scp_pid(self) -> int | None:
        for child in psutil.Process(self.box.pid).children():
            if "scp" in child.cmdline():
                return int(child.pid)
        return None

    def answers(self) -> bool:
        with association(self.port) as opened:
            return opened is not None


@pytest.fixture(scope="module")
def site(place: Lab) -> Site:
    (port,) = free_ports(1)
    hub = place.hub().start().wait()
    box = place.box("BOX-1", dicom_port=port).start()
    box.enrol(hub)
    return Site(hub, box, port, clinic_people(box), hub_people(hub))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of a series: sent again, they are the same."""
    return series(tmp_path_factory.mktemp("noisy"), 12)


def uid(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_a_stranger_is_refused_shown_within_a_second_and_admitted_by_one_click(site: Site) -> None:
    page = site.doctor.caller
    body = page.get("/modalities").body
    assert (body["title"], body["port"], body["others"]) == ("LIANZHEN", site.port, [])
    assert not site.answers()
    took = wait_until("it is shown", lambda: bool(page.get("/modalities").body["others"]), 5)
    assert took < 1.0
    (stranger,) = page.get("/modalities").body["others"]
    assert (stranger["title"], stranger["address"]) == ("CT1", "127.0.0.1")
    assert (stranger["state"], stranger["seen_ms"] > 0) == ("refused", True)
    assert page.post(f"/modalities/{stranger['id']}/admit").status == 200
    with association(site.port) as opened:
        assert opened is not None
        assert opened.echo() == 0
    (row,) = page.get("/modalities").body["admitted"]
    assert row["by_name"] == "测试doctor.one"
    assert (row["port"], row["may_query"], row["commits_here"]) == (0, False, False)
    allow = f"/modalities/{row['id']}/allow"
    assert page.post(allow, {"port": 11112, "may_query": True}).status == 200
    (row,) = page.get("/modalities").body["admitted"]
    assert (row["port"], row["may_query"], row["commits_here"]) == (11112, True, False)
    assert page.post(allow, {"port": 65536}).status == 422


def test_packaged_images_and_a_noisy_series_arrive_pixel_for_pixel(
    site: Site, noisy: list[Path]
) -> None:
    files = [Path(str(get_testdata_file(name))) for name in PACKAGED] + noisy
    hashes = {uid(path): pixels(path.read_bytes()) for path in files}
    assert len(set(hashes.values())) == len(files)  # no two slices are equal
    assert storescu(site.port, files).good == files
    wait_until("all of it at the hub", lambda: site.safe() >= hashes.keys())
    images = {image.sop_uid: image for image in site.at_hub()}
    for sop_uid, wanted in hashes.items():
        content = site.original(images[sop_uid])
        assert pixels(content) == wanted
        assert hashlib.sha256(content).hexdigest() == images[sop_uid].sha256
        times = images[sop_uid].stored_ms, images[sop_uid].received_ms  # the box's, the hub's
        assert all(abs(at_ms - time.time() * 1000) < 600_000 for at_ms in times)
    packaged = pydicom.dcmread(files[0])  # the third is the modality's, as it said it
    wanted = f"{packaged.AcquisitionDate}{packaged.AcquisitionTime}{packaged.TimezoneOffsetFromUTC}"
    assert images[uid(files[0])].device_time == wanted
    wait_until("its previews", lambda: all(image.preview for image in site.at_hub()))
    page = site.doctor.caller
    shown = page.get("/imaging").body["studies"]
    wait_until(
        "receipts at the box",
        lambda: all(
            study["stored"] == study["received"] for study in page.get("/imaging").body["studies"]
        ),
    )
    ct = next(study for study in shown if study["sent"]["name"] == NAME)
    found = page.get(f"/studies/{ct['id']}").body["found"]
    assert (len(found["images"]), found["state"], ct["patient_id"]) == (12, "safe", "")
    assert [image["instance_number"] for image in found["images"]] == list(range(12))


def test_pictures_and_originals_for_those_who_may(site: Site) -> None:
    page, admin = site.doctor.caller, site.admin.caller
    study = next(s for s in site.studies() if s.sent.name == NAME)
    image = page.get(f"/studies/{study.id}").body["found"]["images"][0]
    reply = page.get(f"/studies/{study.id}/{image['id']}/preview")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
    there = admin.get(f"/studies/{study.id}").body["found"]
    assert len(there["images"]) == there["arrived"] == 12
    address = f"/studies/{study.id}/{image['id']}"
    assert admin.get(f"{address}/preview").headers["content-type"] == "image/jpeg"
    copies = [
        page.get(f"/studies/{study.id}/{image['id']}/original"),
        admin.get(f"{address}/original"),
    ]
    for copy in copies:
        assert copy.headers["content-type"] == "application/dicom"
        assert hashlib.sha256(copy.body).hexdigest() == image["sha256"]
    stranger = site.clinic.of(Role.PHARMACIST).caller
    assert stranger.get(f"/studies/{study.id}/{image['id']}/preview").status == 403
    assert admin.get(f"/studies/{study.id}/{'0' * 32}/preview").status == 404
    expert = site.centre.of(Role.EXPERT).caller
    assert expert.get(f"/studies/{study.id}").status == 404  # on no case with it
    assert expert.get(f"{address}/original").status == 404
    assert expert.post(f"/studies/{study.id}/teaching", {}).status == 404


def test_what_storescu_sent_comes_out_by_wado_with_every_element(
    site: Site, noisy: list[Path]
) -> None:
    assert storescu(site.port, noisy).good == noisy
    wait_until("all of it at the hub", lambda: site.safe() >= {uid(path) for path in noisy})
    first = pydicom.dcmread(noisy[0])
    study = f"/dicomweb/studies/{first.StudyInstanceUID}"
    at_hub, at_box = site.admin.caller, site.doctor.caller
    series_path = f"{study}/series/{first.SeriesInstanceUID}"
    for caller in (at_hub, at_box):
        reply = caller.get(f"{series_path}/metadata", Accept="application/dicom+json")
        assert reply.status == 200
        named = [one["00080018"]["Value"][0] for one in json.loads(reply.body)]
        assert named == [uid(path) for path in noisy]
    for path in noisy:
        image = f"{series_path}/instances/{uid(path)}"
        for accept in ("application/dicom; transfer-syntax=*", "application/dicom"):
            reply = at_hub.get(image, Accept=accept)
            assert reply.status == 200
            assert elements(reply.body) == elements(path.read_bytes())
        frames = [
            caller.get(f"{image}/frames/1", Accept="application/octet-stream").body
            for caller in (at_hub, at_box)
        ]
        assert frames == [pydicom.dcmread(path).PixelData] * 2
    assert at_box.get(image).status == 404  # copies are given out by the hub
    for nobody in (site.centre.of(Role.EXPERT), site.clinic.of(Role.ADMIN)):
        assert nobody.caller.get(f"{series_path}/metadata").status in (403, 404)


def test_one_uid_twice_is_kept_once_if_identical_and_side_by_side_if_not(
    site: Site, tmp_path: Path
) -> None:
    one, other = (ct_slice(number, "1.2.826.9.2", "1.2.826.9.2.1") for number in (1, 2))
    other.SOPInstanceUID, other.InstanceNumber = one.SOPInstanceUID, one.InstanceNumber
    paths = [tmp_path / name for name in ("one.dcm", "other.dcm")]
    for image, path in zip((one, other), paths, strict=True):
        image.save_as(path, enforce_file_format=True)
    sent = [paths[0], paths[0], paths[1], paths[0], paths[1]]
    for path in sent:  # an association each: nothing is remembered from the one before
        assert storescu(site.port, [path]).good == [path]

    def at_hub() -> list[Instance]:
        return [image for image in site.at_hub() if image.sop_uid == one.SOPInstanceUID]

    wait_until("both at the hub", lambda: [one.state for one in at_hub()] == [SAFE, SAFE])
    assert {pixels(site.original(image)): image.differs for image in at_hub()} == {
        pixels(paths[0].read_bytes()): False,
        pixels(paths[1].read_bytes()): True,
    }
    study = next(one for one in site.studies() if one.uid == "1.2.826.9.2")
    assert (study.stored, study.flagged) == (2, 1)
    for page in (site.doctor.caller, site.admin.caller):
        images = page.get(f"/studies/{study.id}").body["found"]["images"]
        assert sorted(image["differs"] for image in images) == [False, True]
        shown = page.get(f"/studies/{study.id}", Accept="text/html").body
        assert shown.count("编号与另一幅相同，内容不同") == 1


def test_ultrasound_comes_as_a_cine_to_play_and_a_table_of_measurements(
    site: Site, tmp_path: Path
) -> None:
    cine, report = ultrasound_cine(frames=24), ultrasound_report()
    cine.StudyInstanceUID = report.StudyInstanceUID
    paths = [tmp_path / "cine.dcm", tmp_path / "report.dcm"]
    for image, path in zip((cine, report), paths, strict=True):
        image.save_as(path, enforce_file_format=True)
    assert storescu(site.port, paths).good == paths
    uids = {cine.SOPInstanceUID, report.SOPInstanceUID}
    wait_until("both at the hub", lambda: site.safe() >= uids)
    study = next(one for one in site.studies() if one.uid == report.StudyInstanceUID)
    there = next(one for one in site.at_hub() if one.sop_uid == cine.SOPInstanceUID)
    wait_until("its preview", lambda: any(x.preview for x in site.at_hub() if x.id == there.id))
    assert (there.frames, there.burned_in) == (24, "maybe")
    assert pixels(site.original(there)) == hashlib.sha256(cine.PixelData).hexdigest()
    for page in (site.doctor.caller, site.admin.caller):
        address = f"/studies/{study.id}/{there.id}/preview"
        frames = {page.get(f"{address}?frame={number}").body for number in range(16)}
        assert len(frames) == 16
        assert all(each.startswith(b"\xff\xd8\xff") for each in frames)
        assert page.get(f"{address}?frame=16").status == 404
        (shown,) = page.get(f"/studies/{study.id}").body["reports"]
        found = [(row["name"], row["value"], row["unit"]) for row in shown["rows"]]
        assert found == [
            ("左室舒张末期内径", "47.5", "mm"), ("Ejection Fraction", "62", "%"), ("Count", "3", "")
        ]  # fmt: skip
        text = page.get(f"/studies/{study.id}", Accept="text/html").body
        for word in ("图中可能含患者文字", "左室舒张末期内径", "平均值"):
            assert word in text


def taught(page: Caller, study: Study, **wanted: object) -> tuple[list[bytes], str]:
    """The images of an export for teaching, and what it says of itself."""
    reply = page.post(f"/studies/{study.id}/teaching", wanted)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.testzip() is None
        images = [archive.read(name) for name in archive.namelist() if name.endswith(".dcm")]
        return images, archive.read("README.txt").decode()


def test_a_study_goes_out_for_teaching_without_its_patient(site: Site, tmp_path: Path) -> None:
    page, studies = site.admin.caller, site.studies()
    ct = next(one for one in studies if one.sent.name == NAME and one.stored == 12)
    images, said = taught(page, ct, dates="shift")
    assert len(images) == 12
    assert "12 images; 0 were left out" in said
    path = tmp_path / "one.dcm"
    path.write_bytes(images[0])
    told = subprocess.run([DCMTK / "dcmdump", "+U8", path], capture_output=True, text=True)
    assert (told.returncode, "PatientIdentityRemoved" in told.stdout) == (0, True)
    for secret in (NAME, "P-0001", ct.uid, "20261124"):
        assert secret not in told.stdout
    left = {pixels(image) for image in images}
    assert len(left) == 12
    assert left <= {pixels(site.original(one)) for one in site.at_hub() if one.study == ct.id}
    us = next(one for one in studies if one.modalities == ("SR", "US"))
    shown = page.get(f"/studies/{us.id}/teaching").body["choice"]
    assert (len(shown["images"]), len(shown["risky"])) == (0, 1)  # a report is no image
    assert taught(page, us)[0] == []
    images, said = taught(page, us, burned_in=True)
    assert (len(images), "1 images; 0 were left out" in said) == (1, True)
    noted = [(row["action"], row["subject"]) for row in page.get("/audit").body["rows"]]
    assert ("export", f"study/{ct.id}") in noted


def test_a_mark_on_a_key_image_is_in_the_audit_log(site: Site) -> None:
    image = next(one for one in site.at_hub() if one.modality == "CT")
    address = f"/studies/{image.study}/{image.id}/key"
    assert site.doctor.caller.post(address, {"frame": 1, "keyed": True}).status == 200
    rows = site.clinic.of(Role.ADMIN).caller.get("/audit").body["rows"]
    assert ("change", f"instance/{image.id}") in [(row["action"], row["subject"]) for row in rows]


def test_nothing_of_it_lies_in_clear(site: Site) -> None:
    image = ct_slice(0, "1.2.3", "1.2.3.4")
    study = next(s for s in site.studies() if s.sent.name == NAME)
    needles = [NAME.encode(), b"P-0001", study.uid.encode(), image.PixelData[:64]]
    for state in (site.box.state, site.hub.state):
        for path in (each for each in state.rglob("*") if each.is_file()):
            content = path.read_bytes()
            assert not [needle for needle in needles if needle in content], path
    for log in (site.box.log, site.hub.log):
        assert not [needle for needle in needles if needle in log.read_bytes()]


@pytest.mark.parametrize("victim", ["scp", "core"])
def test_every_success_is_kept_though_a_process_is_killed_while_it_receives(
    site: Site, tmp_path: Path, victim: str
) -> None:
    files = series(tmp_path, 40, side=128)
    before, acknowledged = len(site.at_hub()), set[Path]()

    def kill() -> None:
        wait_until("the first images", lambda: len(acknowledged) > 0 or sent_some(), 10)
        pid = site.scp_pid() if victim == "scp" else site.box.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    segments = site.box.state / "dicom"
    size = sum(path.stat().st_mtime_ns for path in segments.glob("*.seg"))

    def sent_some() -> bool:
        return sum(path.stat().st_mtime_ns for path in segments.glob("*.seg")) != size

    killer = threading.Thread(target=kill)
    killer.start()
    acknowledged |= set(storescu(site.port, files).good)
    killer.join()
    if victim == "core":
        site.box.kill()
        site.box.start().wait()
    wait_until("the scp again", site.box.takes_images)
    while missing := [path for path in files if path not in acknowledged]:
        acknowledged |= set(storescu(site.port, missing).good)
    wanted = {uid(path): pixels(path.read_bytes()) for path in files}
    wait_until("all of it at the hub", lambda: site.safe() >= wanted.keys())
    images = [image for image in site.at_hub() if image.sop_uid in wanted]
    assert len(images) == len(files) == len(site.at_hub()) - before  # each once
    assert {image.sop_uid: pixels(site.original(image)) for image in images} == wanted


def test_worklist_and_commitment_of_the_real_programs_and_a_request_outlives_their_death(
    site: Site, tmp_path: Path
) -> None:
    page, port = site.doctor.caller, str(site.port)
    patient = registered(site.clinic)
    wanted = {"modality": "US", "procedure": "腹部超声"}
    made = page.post(f"/patients/{patient}/orders", wanted).body["id"]
    (order,) = page.get(f"/patients/{patient}/orders").body["orders"]
    assert (order["id"], order["state"]) == (made, "ordered")
    command = [str(DCMTK / "findscu"), "-W", "-v", "-aet", "CT1", "-k", "PatientName=张*"]
    keys = ["-k", "AccessionNumber", "127.0.0.1", port]
    found = subprocess.run(command + keys, capture_output=True, check=True, timeout=60)
    assert accession(made).encode() in found.stdout + found.stderr
    files, modality, transaction = series(tmp_path, 2), Modality(), generate_uid()
    assert storescu(site.port, files).good == files
    images = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    assert modality.ask(site.port, images, transaction, stay=False) == 0
    site.box.kill()  # the scp dies with it
    site.box.start().wait()
    wait_until("the scp again", site.box.takes_images)
    with modality.listening() as listens:
        (row,) = page.get("/modalities").body["admitted"]
        assert page.post(f"/modalities/{row['id']}/allow", {"port": listens}).status == 200
        assert modality.heard.wait(60)
    assert modality.report() == (1, transaction, uids(images), {})
    assert site.safe() >= uids(images)


def test_an_upload_goes_on_where_a_hub_was_killed(site: Site, tmp_path: Path) -> None:
    frames = 40
    image = ct_slice(7, "1.2.826.9.7", "1.2.826.9.7.1", side=512, NumberOfFrames=frames)
    image.PixelData = os.urandom(2 * 512 * 512 * frames)
    path = tmp_path / "large.dcm"
    image.save_as(path, enforce_file_format=True)
    parts = site.hub.state / "images"

    def partly() -> bool:
        sizes = [each.stat().st_size for each in parts.rglob("*.part")]
        return any(size > 1 << 20 for size in sizes)

    assert storescu(site.port, [path]).good == [path]
    wait_until("a part at the hub", partly)
    site.hub.kill()
    (part,) = parts.rglob("*.part")
    came = part.stat().st_size
    assert (1 << 20) < came < path.stat().st_size
    site.hub.start().wait()
    wait_until("all of it at the hub", lambda: image.SOPInstanceUID in site.safe())
    (found,) = (one for one in site.at_hub() if one.sop_uid == image.SOPInstanceUID)
    assert pixels(site.original(found)) == hashlib.sha256(image.PixelData).hexdigest()
    assert not list(parts.rglob("*.part"))
