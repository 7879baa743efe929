"""A print server and an IPP printer of your own, on loopback: for the demonstration and the tests.

The real programs: CUPS's scheduler with its filters and backend, and ``ippeveprinter``, the
reference IPP Everywhere printer. Every sheet lands as a file; its tray can be emptied and filled.
Nothing here is imported by the product.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

from lab import PATIENCE_SECONDS, LabError, free_ports, wait_until

QUEUE: Final = "ward"
_BUS: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow send_destination="*"/><allow own="*"/>
<allow receive_sender="*"/></policy></busconfig>
"""
_COMMAND: Final = """#!/bin/sh
# Prints $1: tells the printer when the tray is empty, waits for paper, and lays the sheet down.
if [ -e "{folder}/no-paper" ]; then
  echo "STATE: +media-empty-error" >&2
  while [ -e "{folder}/no-paper" ]; do sleep 0.1; done
  echo "STATE: -media-empty-error" >&2
fi
cp "$1" "{folder}/printed/.new" && mv "{folder}/printed/.new" "{folder}/printed/$(date +%s%N).pdf"
"""
_FILES: Final = """ServerRoot {folder}/root
StateDir {folder}/state
CacheDir {folder}/cache
RequestRoot {folder}/spool
TempDir {folder}/spool/tmp
DataDir /usr/share/cups
ServerBin /usr/lib/cups
ServerKeychain {folder}/root/ssl
AccessLog {folder}/log/access
ErrorLog {folder}/log/error
PageLog {folder}/log/page
"""
_SCHEDULER: Final = """Listen 127.0.0.1:{port}
LogLevel info
Browsing Off
BrowseLocalProtocols none
WebInterface No
PreserveJobHistory Yes
PreserveJobFiles No
DefaultAuthType None
<Location />
  Order allow,deny
  Allow from 127.0.0.1
</Location>
<Policy default>
  JobPrivateAccess all
  JobPrivateValues none
  SubscriptionPrivateAccess all
  SubscriptionPrivateValues none
  <Limit All>
    Order allow,deny
    Allow from 127.0.0.1
  </Limit>
</Policy>
"""


class _Part:
    """A program in the foreground, in a folder that its helpers may pass through."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lz-print-", dir="/tmp"))
        self.folder.chmod(0o755)  # CUPS's filters run as a user of their own
        self._name = name
        self._running: list[subprocess.Popen[bytes]] = []

    def _start(self, *command: str, **environment: str) -> None:
        with (self.folder / "output").open("ab") as output:
            self._running.append(
                subprocess.Popen(
                    command, stdout=output, stderr=output, env={**os.environ, **environment}
                )
            )

    def _answers(self, port: int) -> bool:
        if self._running[-1].poll() is not None:
            raise LabError(f"{self._name} ended: {self.tail()}")
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    def stop(self) -> None:
        """End it and what it started, the last one first; its folder stays."""
        while self._running:
            process = self._running.pop()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def remove(self) -> None:
        """Stop it, and forget all that it held."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def tail(self) -> str:
        """The last words of its output."""
        return "\n".join((self.folder / "output").read_text(errors="replace").splitlines()[-5:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Printer(_Part):
    """An IPP Everywhere printer with one tray that takes PDF on A4."""

    def __init__(self) -> None:
        super().__init__("ippeveprinter")
        (self.port,) = free_ports(1)
        self.uri = f"ipp://localhost:{self.port}/ipp/print"
        self._no_paper = self.folder / "no-paper"

    def start(self) -> Self:
        """Start it, and wait until it answers. It wants a message bus, and gets one of its own."""
        for name in ("spool", "printed"):
            (self.folder / name).mkdir(exist_ok=True)
        command = self.folder / "command"
        command.write_text(_COMMAND.format(folder=self.folder))
        command.chmod(0o755)
        (self.folder / "bus.conf").write_text(_BUS.format(folder=self.folder))
        self._start("dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork")
        wait_until("a message bus", (self.folder / "bus").exists)
        self._start(
            *("ippeveprinter", "-p", str(self.port), "-n", "localhost", "-r", "off"),
            *(
                "-f",
                "application/pdf",
                "-d",
                str(self.folder / "spool"),
                "-c",
                str(command),
                "Ward",
            ),
            DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={self.folder}/bus",
        )
        wait_until("a printer that answers", lambda: self._answers(self.port))
        return self

    def take_paper(self) -> None:
        """Empty the tray."""
        self._no_paper.touch()

    def put_paper(self) -> None:
        """Fill it."""
        self._no_paper.unlink(missing_ok=True)

    def printed(self) -> list[bytes]:
        """What was printed, in its order."""
        return [path.read_bytes() for path in sorted((self.folder / "printed").glob("*.pdf"))]


class Cups(_Part):
    """A CUPS scheduler with its own root, without a queue at first."""

    def __init__(self) -> None:
        super().__init__("cupsd")
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it, and wait until it answers. What it held is there again."""
        for name in ("root", "state", "cache", "log", "spool/tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        files, scheduler = self.folder / "files.conf", self.folder / "cupsd.conf"
        files.write_text(_FILES.format(folder=self.folder))
        scheduler.write_text(_SCHEDULER.format(port=self.port))
        self._start("cupsd", "-f", "-c", str(scheduler), "-s", str(files))
        wait_until("a print server that answers", lambda: self._answers(self.port))
        return self

    def add(self, printer: Printer, queue: str = QUEUE) -> str:
        """A driverless queue to a printer; its name. CUPS asks the printer what it can do after
        it has said yes, and opens the queue once more when it knows."""
        self._run("lpadmin", "-p", queue, "-E", "-v", printer.uri, "-m", "everywhere")
        wait_until("a queue that knows its printer", lambda: "PageSize" in self._options(queue))
        return queue

    def _options(self, queue: str) -> str:
        command = ["lpoptions", "-h", f"127.0.0.1:{self.port}", "-p", queue, "-l"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def pause(self, queue: str = QUEUE) -> None:
        """Take jobs and print none, as somebody at the print server would have it."""
        self._run("cupsdisable", queue)

    def go_on(self, queue: str = QUEUE) -> None:
        """Print again."""
        self._run("cupsenable", queue)

    def _run(self, tool: str, *words: str) -> None:
        command = [tool, "-h", f"127.0.0.1:{self.port}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"{tool}: {done.stderr.strip()}")
