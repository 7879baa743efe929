"""A peer in a contest: two brokers, a publisher at one end and a consumer at the other."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.common.child import Child
from bench.common.contest import Turn
from bench.common.measure import CpuMeter, micros_each
from lab import LabError, wait_until

from .sink import Sink

_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_END_SECONDS = 10.0


def program(name: str) -> str | None:
    """Where a server program is, also where a plain user's PATH does not lead."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


class Server:
    """A peer's broker; ended by pid."""

    def __init__(self, command: Sequence[str], folder: Path, port: int) -> None:
        self._log = folder / "log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        wait_until(f"a {command[0]} that listens", lambda: self._listens(port))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def end(self) -> None:
        """Terminate it, whatever it does."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listens(self, port: int) -> bool:
        if self._process.poll() is not None:
            raise LabError(f"a peer's broker ended: {self._log.read_text()[-300:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True


class Peer:
    """``brokers`` (edge first) carry what ``publisher`` sends to ``consumer``."""

    def __init__(
        self, name: str, brokers: tuple[Server, Server], consumer: Child, publisher: Child,
        sink: Sink,
    ) -> None:  # fmt: skip
        self.name = name
        self._brokers = brokers
        self._consumer = consumer
        self._publisher = publisher
        self._sink = sink
        self._put = 0

    def turn(self, count: int) -> Turn:
        """From the first publish until the consumer has committed the last record."""
        edge, hub = self._brokers
        pids = {"edge": edge.pid, "broker": hub.pid, "hub": self._consumer.pid}
        meter = CpuMeter(pids, apart=(self._publisher.pid,))
        self._consumer.send(expect=count)
        self._publisher.send(publish=count)
        sent = self._publisher.receive()
        done = self._consumer.receive()["at"]
        spent, strangers = meter.read()
        self._put += count
        extra = {"stored_at_box_per_s": count / (sent["acknowledged"] - sent["began"])}
        seconds = done - sent["began"]
        return Turn(count, seconds, micros_each(spent, count), strangers, extra)

    def check(self) -> dict[str, int]:
        """The table's rows against what was put, and what came twice."""
        totals = self._consumer.ask(totals=True)
        duplicates = totals["delivered"] - totals["stored"]
        return {"put": self._put, "stored": self._sink.count(), "duplicates": duplicates}
