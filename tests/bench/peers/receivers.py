"""Storage SCPs that can be put beside each other: ours, Orthanc and dcmtk's storescp.

Each is the real program with TCP_NODELAY at its end too. Debian's storescp syncs nothing, so its
files are synced when they are closed, by a few lines of C that are compiled here. With ``delay_ms``
strace lets every fsync and fdatasync of a receiver return so much later.
"""

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psutil

from bench.common.measure import cpu_seconds
from lab import free_ports, wait_until
from lianzhen_edge.dicom.arrival import FOLDER, Admissions, Caller
from lianzhen_edge.dicom.scp import SPARE_SEGMENTS
from lianzhen_edge.dicom.segments import segment_path, segments
from lianzhen_runtime.child import own_command
from lianzhen_runtime.files import private_folder
from support.modality import DCMTK

from .peer import Server, program

TITLE: Final = "CT1"
_SYNCED_CLOSE: Final = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

int fclose(FILE *file) {
    static int (*real)(FILE *);
    if (!real) real = (int (*)(FILE *))dlsym(RTLD_NEXT, "fclose");
    fflush(file);
    fdatasync(fileno(file));
    return real(file);
}
"""


class Receiver:
    """A running one."""

    name = ""
    promise = ""

    def __init__(self, folder: Path, ends: ExitStack, delay_ms: int) -> None:
        self.folder = folder
        folder.mkdir()
        (self.port,) = free_ports(1)
        command, environment = self.command()
        before = dict(os.environ)
        os.environ.update(environment | {"TCP_NODELAY": "1"})
        try:
            self._server = Server([*_delayed(delay_ms), *command], folder, self.port)
        finally:
            os.environ.clear()
            os.environ.update(before)
        ends.callback(self._server.end)
        own = psutil.Process(self._server.pid)
        self.pid: int = own.children()[0].pid if delay_ms else own.pid

    def command(self) -> tuple[list[str], dict[str, str]]:
        """What it is started by, and what its environment has beside ours."""
        raise NotImplementedError

    def count(self) -> int:
        """Images that it has now."""
        raise NotImplementedError

    def clear(self) -> None:
        """Forget what it has, and be ready for as much again."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until it is done with what came."""

    def cpu_s(self) -> float:
        """CPU seconds up to now."""
        return cpu_seconds(self.pid, children=True)

    def peak_mb(self) -> float:
        """The most memory that it ever had; of storescp without those that it forks."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


def _delayed(delay_ms: int) -> list[str]:
    if not delay_ms:
        return []
    calls = "fsync,fdatasync"
    late = ["-e", f"trace={calls}", "-e", f"inject={calls}:delay_exit={delay_ms * 1000}"]
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", *late]


class Ours(Receiver):
    """The box's receiving process, and in the place of its core somebody who says yes."""

    name = "ours"
    promise = "data, SHA-256 and index row sealed, and synced before Success"

    def __init__(self, folder: Path, ends: ExitStack, delay_ms: int) -> None:
        self._told = 0
        self._ends = ends
        super().__init__(folder, ends, delay_ms)
        self.settle()

    def command(self) -> tuple[list[str], dict[str, str]]:
        private_folder(self.folder)
        self._images = private_folder(self.folder / FOLDER)
        Admissions(self._images).write([Caller(TITLE, "127.0.0.1")])
        self._listen()
        settings = self.folder / "edge.toml"
        settings.write_text(
            f'state = "{self.folder}"\nlisten = "127.0.0.1"\ndicom_port = {self.port}\n'
        )
        return own_command("lianzhen_edge", "--config", str(settings), "scp"), {}

    def _listen(self) -> None:
        receiver = self

        class Core(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                known = self.path in ("/dicom/kept", "/dicom/called")
                if self.path == "/dicom/kept":
                    receiver.heard(content)
                self.send_response_only(204 if known else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                """Nothing: a caller on a Unix socket has no address to be logged."""

        core = socketserver.ThreadingUnixStreamServer(str(self.folder / "control.sock"), Core)
        core.daemon_threads = True
        threading.Thread(target=core.serve_forever, daemon=True).start()
        self._ends.callback(core.server_close)
        self._ends.callback(core.shutdown)

    def heard(self, content: bytes) -> None:
        """The core was told."""
        found = json.loads(content)
        self._told += len(found) if isinstance(found, list) else 1

    def count(self) -> int:
        return self._told

    def clear(self) -> None:
        self._told = 0
        for number in segments(self._images)[:-1]:
            segment_path(self._images, number).unlink()

    def settle(self) -> None:
        wait_until("its spare segments", lambda: self._spares() == SPARE_SEGMENTS, 60)

    def _spares(self) -> int:
        return len(list(self._images.glob("*.spare")))


class StoreScp(Receiver):
    """As fast as it can be told to: bytes as they come, large PDUs."""

    name = "storescp"
    promise = "a file each, synced when it is closed; no hash, no index"

    def command(self) -> tuple[list[str], dict[str, str]]:
        (self.folder / "images").mkdir()
        source, shim = self.folder / "synced.c", self.folder / "synced.so"
        source.write_text(_SYNCED_CLOSE)
        compiler = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"]
        subprocess.run(compiler, check=True)
        command = [str(DCMTK / "storescp"), "+B", "--max-pdu", "131072", "--fork"]
        command += ["-od", str(self.folder / "images"), str(self.port)]
        return command, {"LD_PRELOAD": str(shim)}

    def count(self) -> int:
        return len(os.listdir(self.folder / "images"))

    def clear(self) -> None:
        shutil.rmtree(self.folder / "images")
        (self.folder / "images").mkdir()


class Orthanc(Receiver):
    """As Debian has it."""

    name = "orthanc"
    promise = "files synced, its index not for each image; default PDU"

    def command(self) -> tuple[list[str], dict[str, str]]:
        (self._http,) = free_ports(1)
        configuration = {
            "StorageDirectory": str(self.folder / "store"),
            "IndexDirectory": str(self.folder / "store"),
            "DicomServerEnabled": True,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "HttpPort": self._http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        return [program("Orthanc") or "Orthanc", str(path)], {}

    def count(self) -> int:
        return int(self._ask("GET", "/statistics")["CountInstances"])

    def clear(self) -> None:
        for study in self._ask("GET", "/studies"):
            self._ask("DELETE", f"/studies/{study}")

    def _ask(self, method: str, target: str) -> Any:
        asked = urllib.request.Request(f"http://127.0.0.1:{self._http}{target}", method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.loads(answer.read())


def send(port: int, lists: list[list[Path]]) -> float:
    """Every list in an association of its own, all at once, by storescu; seconds that it took."""
    began = time.monotonic()
    senders = []
    for paths in lists:
        command = [str(DCMTK / "storescu"), "-xe", "--max-send-pdu", "131072", "-aet", TITLE]
        command += ["127.0.0.1", str(port), *map(str, paths)]
        environment = os.environ | {"TCP_NODELAY": "1"}
        senders.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    for sender in senders:
        if sender.wait(600):
            raise OSError("the sender failed")
    return time.monotonic() - began
