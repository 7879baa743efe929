"""Orthanc as Debian has it, with its DICOMweb plugin: files synced, index as it comes.

Its own HTTPS ends the whole program at the first request (1.10.1 with Debian 12's OpenSSL), so
stunnel stands in front.
"""

import json
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lab import free_ports

from .certificates import Files
from .peer import Server, program

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def missing() -> str | None:
    """Why it cannot be measured here, if so."""
    if program("Orthanc") is None:
        return "orthanc is not installed"
    if not PLUGIN.exists():
        return "orthanc-dicomweb is not installed"
    if program("stunnel") is None:
        return "stunnel4 is not installed"
    return None


class Orthanc:
    """A server of its own, and what one may ask it at once, past any line.

    Its TLS is at ``port``.
    """

    def __init__(
        self, ends: ExitStack, folder: Path, files: Files, peers: dict[str, str] | None = None
    ) -> None:
        folder.mkdir()
        self._plain, self.port = free_ports(2)
        configuration = {
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "Plugins": [str(PLUGIN)],
            "DicomServerEnabled": False,
            "HttpPort": self._plain,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "HttpsVerifyPeers": True,
            "HttpsCACertificates": str(files.ca),
            "OrthancPeers": {name: [url] for name, url in (peers or {}).items()},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        command = (program("Orthanc") or "Orthanc", "orthanc.json")
        self.server = Server(command, folder, self._plain)
        ends.callback(self.server.end)
        (folder / "stunnel.conf").write_text(
            "foreground = yes\npid =\ndebug = warning\n[tls]\n"
            f"accept = 127.0.0.1:{self.port}\nconnect = 127.0.0.1:{self._plain}\n"
            f"cert = {files.server}\nkey = {files.server_key}\n"
        )
        self.tls = Server((program("stunnel") or "stunnel", "stunnel.conf"), folder, self.port)
        ends.callback(self.tls.end)

    def ask(self, method: str, target: str, body: bytes | None = None) -> Any:
        """One request to its REST interface; what it says."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._plain}{target}",
            data=body,
            method=method,
            headers={"Content-Type": "application/octet-stream"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def count(self) -> int:
        """Images that it has."""
        return int(self.ask("GET", "/statistics")["CountInstances"])

    def pushes(self, peer: str, files: list[Path]) -> str:
        """Takes a study in, to be pushed to ``peer``; its name here."""
        for file in files:
            self.ask("POST", "/instances", file.read_bytes())
        (study,) = self.ask("GET", "/studies")
        return str(study)

    def push(self, peer: str, study: str) -> str:
        """Begin to push a study as a job; its name."""
        wanted = json.dumps({"Resources": [study], "Asynchronous": True}).encode()
        return str(self.ask("POST", f"/peers/{peer}/store", wanted)["ID"])

    def state(self, job: str) -> str:
        """Of a job."""
        return str(self.ask("GET", f"/jobs/{job}")["State"])

    def again(self, job: str) -> None:
        """As its operator does with a job that failed."""
        try:
            self.ask("POST", f"/jobs/{job}/resubmit", b"{}")
        except urllib.error.HTTPError as error:
            error.close()
