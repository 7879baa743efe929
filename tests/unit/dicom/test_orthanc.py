"""Orthanc against the port: it queries, has studies sent to it, reads the worklist, and asks for
commitment, all by an implementation that is none of ours.
"""

import asyncio
import io
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest

from lab import free_ports, wait_until
from lianzhen_edge.dicom import orders
from lianzhen_edge.dicom.services import commitment
from support.dicom_node import PATIENT, STUDY, dicom_node
from support.people import NURSE

ORTHANC = Path("/usr/sbin/Orthanc")


class Orthanc:
    """By its REST API."""

    def __init__(self, http: int, port: int) -> None:
        self._http, self.port = http, port

    def ask(self, method: str, target: str, said: object = None) -> Any:
        content = None if said is None else json.dumps(said).encode()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self._http}{target}", data=content, method=method
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.read()

    async def json(self, method: str, target: str, said: object = None) -> Any:
        """The same, decoded, beside the loop that answers Orthanc."""
        return json.loads(await asyncio.to_thread(self.ask, method, target, said))

    def answers(self) -> bool:
        try:
            self.ask("GET", "/system")
        except OSError:
            return False
        return True


@contextmanager
def orthanc(folder: Path, box: int) -> Iterator[Orthanc]:
    """One that knows the box."""
    http, port = free_ports(2)
    configuration = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomPort": port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DefaultEncoding": "Utf8",
        "DicomModalities": {"box": ["LIANZHEN", "127.0.0.1", box]},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        running = subprocess.Popen([str(ORTHANC), str(path)], stdout=log, stderr=log)
        try:
            made = Orthanc(http, port)
            wait_until("Orthanc answers", made.answers, 60)
            yield made
        finally:
            running.kill()
            running.wait()


async def test_orthanc_finds_fetches_reads_the_worklist_and_asks_for_commitment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitment, "_DUE_SECONDS", 0.1)
    async with dicom_node(tmp_path) as node:
        sent = await node.send(3)
        ordered = await node.put(
            lambda book: orders.place(book, NURSE, PATIENT.id, "US", "腹部超声", "")
        )
        with orthanc(tmp_path, node.port) as peer:
            await node.admit("ORTHANC", port=peer.port, may_query=True)
            await peer.json("POST", "/modalities/box/echo", {})

            query = {"Level": "Study", "Query": {"PatientName": "测试*", "StudyInstanceUID": ""}}
            found = (await peer.json("POST", "/modalities/box/query", query))["Path"]
            (one,) = await peer.json("GET", f"{found}/answers?expand&simplify")
            assert (one["StudyInstanceUID"], one["PatientName"]) == (STUDY, "测试^患者")

            target = {"TargetAet": "ORTHANC", "Synchronous": True}
            await peer.json("POST", f"{found}/answers/0/retrieve", target)
            came = {}
            for key in await peer.json("GET", "/instances"):
                file = await asyncio.to_thread(peer.ask, "GET", f"/instances/{key}/file")
                read = pydicom.dcmread(io.BytesIO(file))
                came[str(read.SOPInstanceUID)] = read
            assert len(came) == 3
            for image in sent:
                assert came[str(image.SOPInstanceUID)] == image

            asked = {"PatientID": PATIENT.number, "AccessionNumber": "", "PatientName": ""}
            (due,) = await peer.json("POST", "/modalities/box/find-worklist", asked)
            assert (due["AccessionNumber"], due["PatientName"]) == (ordered.accession, "王小明")

            named = [[str(image.SOPClassUID), str(image.SOPInstanceUID)] for image in sent]
            request = {"DicomInstances": [*named, ["1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"]]}
            promised = await peer.json("POST", "/modalities/box/storage-commitment", request)
            report = promised["Path"]
            assert (await peer.json("GET", report))["Status"] == "Pending"
            await node.safe()

            def told() -> bool:
                return bool(json.loads(peer.ask("GET", report))["Status"] != "Pending")

            await node.until(told)
            outcome = await peer.json("GET", report)
            assert outcome["Status"] == "Failure"  # of the one that nobody has
            assert len(outcome["Success"]) == 3
            (failed,) = outcome["Failures"]
            assert failed["SOPInstanceUID"] == "1.2.3.4"
